"""The base of attacks. Their contract is enforced by the framework, not by the attack."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LogitsFn = Callable[["Tensor"], "Tensor"]
Norm = Literal["linf", "l2"]
Keep = Literal["worst", "last"]
AttackLabels = Literal["true", "predicted"]


class Attack(Spec):
    """Base of every attack: a spec of its hyperparameters and one batched method."""

    kind: str
    norm: Norm = Field(default="linf", description="norm of the ball")

    @property
    def label(self) -> str:
        """The short name that tables show, as in `PGD-20`."""
        return self.kind.upper()

    def cheaper(self, steps: int) -> Attack:
        """Return an attack of at most the first `steps` steps of this one; by default this attack."""
        return self

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
