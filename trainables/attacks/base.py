"""The base of attacks. Their contract is enforced by the framework, not by the attack."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self, TypeGuard

from pydantic import Field

from trainables.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LogitsFn = Callable[["Tensor"], "Tensor"]
Norm = Literal["linf", "l2"]
Keep = Literal["worst", "last"]
AttackLabels = Literal["true", "predicted"]
LossName = Literal["ce", "margin", "dlr"]


class Attack(Spec):
    """Base of every attack: a spec of its hyperparameters and one batched method."""

    kind: str
    norm: Norm = Field(default="linf", description="norm of the ball")

    @property
    def label(self) -> str:
        """The short name that tables show, as in `PGD-20`."""
        return self.kind.upper()

    @property
    def needs_no_gradients(self) -> bool:
        """Whether it also searches without gradients, so that hidden ones do not stop it."""
        return False

    def cheaper(self, steps: int) -> Attack:
        """Return an attack of at most the first `steps` steps of this one; by default this attack."""
        return self

    def within(self, norm: str) -> Self:
        """Return this attack in another norm, which it must have."""
        return self.model_copy(update={"norm": norm})

    @property
    def sparing(self) -> bool:
        """Whether a measurement leaves to it only the images that are classified correctly; see `Sparing`."""
        return False

    @property
    def takes_parts(self) -> bool:
        """Whether `hunt` attacks parts of a batch (`trainables.attacks.parts`) as it would attack each alone."""
        return False

    @abstractmethod
    def perturb(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        start: Tensor | None = None,
    ) -> Tensor:
        """Return inputs near `x` that `logits_fn` classifies worse; call `trainables.attacks.run` instead.

        `start` replaces `x` or a random point as the first input; an attack without one may ignore it.

        Shapes: x (N, ...) in [0, 1]; y (N,) class indices or (N, K) probabilities; eps a number
        or (N,); the result is shaped like x and is projected by the framework.
        Units: eps in pixel units of [0, 1].
        """


class Sparing(Attack):
    """Base of attacks that can leave alone, in a measurement, what is broken already, at the start and on the way."""

    @property
    def sparing(self) -> bool:
        return can_hunt(self)

    @abstractmethod
    def hunt(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        standing: Tensor,
    ) -> Tensor:
        """Return misclassified inputs near `x` where it finds any; call `trainables.attacks.hunt` instead.

        Only images that are `standing` need be attacked, and each only until an input is misclassified. What this
        attack draws for an image must not depend on which others stand.

        Shapes: as for `perturb`; y (N,) class indices; standing (N,) of truth values.
        """


def can_hunt(attack: Attack) -> TypeGuard[Sparing]:
    """Return whether an attack can leave alone what is broken: not where a class changes `perturb` alone."""
    if not isinstance(attack, Sparing):
        return False
    latest = next(cls for cls in type(attack).__mro__ if "perturb" in vars(cls) or "hunt" in vars(cls))
    return "hunt" in vars(latest)
