"""Accuracy under attacks beside the protocol's own."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack, AttackLabels, Keep
from trainables.attacks.pgd import Pgd
from trainables.core.spec import Eps, check_radius
from trainables.metrics.base import Accuracy, Metric, MetricContext

CHUNK = 250


class Attacked(Metric):
    """The share of examples that are classified correctly under a further attack, `<name>_accuracy`.

    With `true` labels an image counts if every input of the attack is classified correctly. With `predicted` ones, as
    in some papers, a misclassified image is attacked away from its wrong label, and counts if the attack's last input
    is classified correctly: a weaker attack.
    """

    kind: Literal["attacked"] = "attacked"
    name: str = Field(default="attacked", pattern=r"^[a-z][a-z0-9_]*$", description="first part of the result's name")
    attack: Annotated[Attack, ATTACKS] = Field(default=Pgd(steps=40), description="the attack")
    eps: Eps | None = Field(default=None, description="radius in pixel units of [0, 1]; null: the protocol's")
    labels: AttackLabels = Field(default="true", description="the labels that the attack climbs away from")

    @model_validator(mode="after")
    def _radius_fits_norm(self) -> Self:
        if self.eps is not None:
            check_radius(self.eps, self.attack.norm)
        return self

    def clashes(self, other: Metric) -> bool:
        return isinstance(other, Attacked) and self.name == other.name

    @property
    def attacks_within(self) -> tuple[Attack, ...]:
        return (self.attack,) if self.eps is None else ()

    def values(self, context: MetricContext) -> dict[str, float]:
        import torch

        from trainables import attacks
        from trainables.attacks.verdicts import correct

        eps = context.eps if self.eps is None else float(self.eps)
        keep: Keep = "worst" if self.labels == "true" else "last"
        outcomes = []
        for start in range(0, len(context.y), CHUNK):
            x, y = context.x[start : start + CHUNK], context.y[start : start + CHUNK]
            aim = y
            if self.labels == "predicted":
                with torch.no_grad():
                    aim = context.net(x).argmax(dim=1)
            found = attacks.run(self.attack, context.net, x, aim, eps=eps, generator=context.generator, keep=keep)
            with torch.no_grad():
                outcomes.append(correct(context.net(found), y))
        return {f"{self.name}_accuracy": Accuracy.of(torch.cat(outcomes))}
