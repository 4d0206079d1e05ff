"""What a metric is: numbers about a measured network, recorded with its point beside the protocol's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainables.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainables.attacks.base import Attack
    from trainables.store.state import State


Trainings = tuple["Mapping[int, State]", "Mapping[int, State]"]
KernelInputs = Literal["clean", "mixed", "adversarial"]
"""Images between which a tangent kernel is taken; `mixed`: clean ones with adversarial ones."""


@dataclass(frozen=True)
class MetricContext:
    """What a metric may look at; it must leave all of it as it was.

    `net` is in eval mode and computes no gradients of weights, `state` holds its tensors and masks. `x` and `y` are
    the protocol's examples, with the verdicts on them; `eps` and `norm` are the protocol's. `origin()` is the
    network as the trial initialised it. `trainings()` are the training that led straight to the network and the first
    of the trial, as states by epoch, the last that of its end; None if there are no two. `generator` is the only
    source of randomness, and every metric has its own.

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
        """The attacks that it makes within the protocol's radius, which means nothing in another norm."""
        return ()

    @property
    def follows(self) -> tuple[int, ...] | None:
        """The epochs of trainings that are compared, whose weights are kept for it; None if no trainings are."""
        return None

    @abstractmethod
    def values(self, context: MetricContext) -> dict[str, float]:
        """Return named numbers; one that is not finite is recorded as unknown.

        A protocol may ask for several metrics of one kind, so a name that depends on a field should tell the field.
        """

    def clashes(self, other: Metric) -> bool:
        """Say whether this one gives a name that `other` gives; a protocol with both is refused.

        By default two of one kind do; a metric whose names tell a field is to compare that.
        """
        return self.kind == other.kind
