"""Accuracy under attacks beside the protocol's own."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack, AttackLabels, Keep
from trainables.attacks.pgd import Pgd
from trainables.core.spec import Eps, check_radius
from trainables.metrics.base import Metric, MetricContext

CHUNK = 250


class Attacked(Metric):
    """The share of examples that are classified rightly where a further attack ends, `<name>_accuracy`.

    `labels` `predicted` attacks away from what the network makes of the clean image, as some papers do: an image that
    it gets wrong is then driven off its wrong label, and counts if it ends at the right one. With `true` labels an
    image counts if it is classified rightly on all of the attack's way: stronger. `eps` None is the protocol's.
    """

    kind: Literal["attacked"] = "attacked"
    name: str = Field(default="attacked", pattern=r"^[a-z][a-z0-9_]*$")
    attack: Annotated[Attack, ATTACKS] = Pgd(steps=40)
    eps: Eps | None = None
    labels: AttackLabels = "true"

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

        eps = context.eps if self.eps is None else float(self.eps)
        keep: Keep = "worst" if self.labels == "true" else "last"
        right = 0
        for start in range(0, len(context.y), CHUNK):
            x, y = context.x[start : start + CHUNK], context.y[start : start + CHUNK]
            aim = y
            if self.labels == "predicted":
                with torch.no_grad():
                    aim = context.net(x).argmax(dim=1)
            found = attacks.run(self.attack, context.net, x, aim, eps=eps, generator=context.generator, keep=keep)
            with torch.no_grad():
                right += int((context.net(found).argmax(dim=1) == y).sum())
        return {f"{self.name}_accuracy": right / len(context.y)}
