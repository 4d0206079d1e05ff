"""The attacks of AutoAttack, by this package, in tiers: as strong at a fraction of the cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainables.attacks.apgd import ApgdCe, ApgdTargeted
from trainables.attacks.base import Sparing
from trainables.attacks.fab import Fab
from trainables.attacks.square import Square
from trainables.attacks.worst import Worst

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn


class Ensemble(Sparing):
    """APGD-CE, APGD-T, FAB-T and Square, each on what still stands, and each image until it is broken.

    The attacks and their settings are those of AutoAttack's standard version. FAB-T and Square are most of its cost and
    break next to nothing that APGD has left, so they give up what is out of their reach after a fifth of their steps.
    Unlike AutoAttack, it takes any number of classes. Source: Croce & Hein 2020, arXiv:2003.01690.
    """

    kind: Literal["aa"] = "aa"
    steps: int = Field(default=100, gt=0, description="steps of APGD and FAB")
    queries: int = Field(default=5000, gt=0, description="queries of Square")
    targets: int = Field(default=9, gt=0, description="classes that the targeted attacks aim at")
    tiers: bool = Field(
        default=True,
        description="FAB gives up a class where it is farther than 2 eps, Square an image whose lead falls 3 times too "
        "slowly, after a fifth of their steps; false: never",
    )

    @property
    def needs_no_gradients(self) -> bool:
        return True

    @property
    def label(self) -> str:
        standard = (self.steps, self.queries, self.targets) == (100, 5000, 9)
        return "AA" if standard else f"AA-{self.steps}"

    def cheaper(self, steps: int) -> Ensemble:
        fewer = {"steps": min(steps, self.steps), "queries": min(steps, self.queries), "targets": 1}
        return self.model_copy(update=fewer)

    @property
    def stages(self) -> Worst:
        """The attacks, in their order."""
        norm, steps, targets = self.norm, self.steps, self.targets
        near, soon = (2.0, 3.0) if self.tiers else (None, None)
        return Worst(
            norm=norm,
            attacks=(
                ApgdCe(norm=norm, steps=steps),
                ApgdTargeted(norm=norm, steps=steps, targets=targets),
                Fab(norm=norm, steps=steps, targets=targets, reach=near),
                Square(norm=norm, queries=self.queries, reach=soon),
            ),
        )

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
        import torch

        from trainables.attacks.autoattack import stepped
        from trainables.attacks.standing import classes
        from trainables.attacks.verdicts import wrong

        with torch.no_grad():
            standing = ~wrong(logits_fn(x), classes(y))
        found = self.hunt(logits_fn, x, classes(y), eps=eps, generator=generator, standing=standing)
        # In a training, an image that is misclassified as it is has a loss to be raised, too.
        return stepped(self.norm, logits_fn, x, y, eps, found)

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
        return self.stages.hunt(logits_fn, x, y, eps=eps, generator=generator, standing=standing)
