"""The base of metrics: numbers about a measured network, recorded with its point."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from trainables.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainables.attacks.base import Attack
    from trainables.store.state import State


Trainings = tuple["Mapping[int, State]", "Mapping[int, State]"]
KernelInputs = Literal["clean", "mixed", "adversarial"]
"""Images between which a tangent kernel is taken; `mixed`: clean ones with adversarial ones."""


class Accuracy(float):
    """The share of examples that are classified correctly, as a number that knows which ones.

    `outcomes`, bool, has shape (examples,), or (passes, examples) of a network that draws. They are kept with the
    point, so that networks can be compared on the same examples.
    """

    outcomes: Tensor

    @classmethod
    def of(cls, outcomes: Tensor) -> Self:
        """Return the accuracy of outcomes, exactly."""
        accuracy = cls(int(outcomes.sum()) / outcomes.numel())
        accuracy.outcomes = outcomes
        return accuracy


@dataclass(frozen=True)
class MetricContext:
    """The inputs of a metric, which it must not change.

    `net` is in eval mode and computes no gradients of weights, `state` has its tensors and masks. `x` and `y` are the
    protocol's examples, with the verdicts on them; `eps` and `norm` are the protocol's. `origin()` is the network as
    the trial initialised it. `trainings()` are the last training before the measurement and the first one of the trial,
    as states by epoch up to its end; None if these are not two. `generator` is the only source of randomness; every
    metric has its own.

    Shapes: x (N, C, H, W) in [0, 1] on the device of `net`; y (N,) class indices; the verdicts (N,) bool.
    """

    net: nn.Module
    state: State
    x: Tensor
    y: Tensor
    eps: float
    norm: str
    clean_correct: Tensor
    robust_correct: Tensor
    origin: Callable[[], State]
    generator: torch.Generator
    trainings: Callable[[], Trainings | None] = lambda: None


class Metric(Spec):
    """Base of every metric."""

    kind: str

    @property
    def attacks_within(self) -> tuple[Attack, ...]:
        """The attacks within the protocol's radius; they must be in the protocol's norm."""
        return ()

    @property
    def follows(self) -> tuple[int, ...] | None:
        """The epochs at which trainings are compared, whose weights are stored for it; None if none are compared."""
        return None

    @abstractmethod
    def values(self, context: MetricContext) -> dict[str, float]:
        """Return numbers by name, `Accuracy` where it is one; a number that is not finite is recorded as null.

        A protocol may have several metrics of one kind, so a name that depends on a field should contain it.
        """

    def clashes(self, other: Metric) -> bool:
        """Return whether this metric and `other` have a name in common; a protocol with both is refused.

        By default two of one kind do; a metric whose names contain a field compares that.
        """
        return self.kind == other.kind
