"""How far it is to the nearest misclassified input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.minimal import CarliniWagner, DeepFool, Minimal
from trainables.core.spec import located
from trainables.metrics.base import Metric, MetricContext

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 100


class Distance(Metric):
    """The l2 distance of the first `examples` images to the nearest misclassified input that the attacks find.

    An upper bound of the true distance. An image that is misclassified as it is has 0. `r_2_<attack>`: the mean for one
    attack; `r_2`: of the shortest over all; `r_2_correct`: of that over the images that are classified rightly as they
    are, so that accuracy does not mix in; `rho`: of `r_2` over the image's own length; `r_2_found`: the share of the
    images classified rightly for which any attack found an input. The others count in no mean.
    Source: r_2 is that of Guo et al. 2018, arXiv:1810.09619 §3; rho that of Moosavi-Dezfooli et al. 2016 §4.
    """

    kind: Literal["distance"] = "distance"
    attacks: tuple[Annotated[Attack, ATTACKS], ...] = (
        DeepFool(),
        CarliniWagner(steps=200, searches=6, lr=0.02, constant=0.1),
    )
    examples: int | None = Field(default=200, gt=0)

    @model_validator(mode="after")
    def _minimal(self) -> Self:
        for index, attack in enumerate(self.attacks):
            if not isinstance(attack, Minimal):
                message = f"{attack.kind} minimises no distance; allowed: deepfool, cw"
                raise located(message, "attacks", index, value=attack.kind)
        if not self.attacks or len({attack.kind for attack in self.attacks}) < len(self.attacks):
            raise located("one attack at least, each of another kind", "attacks", value=len(self.attacks))
        return self

    def values(self, context: MetricContext) -> dict[str, float]:
        import torch

        x, y = context.x[: self.examples], context.y[: self.examples]
        by_attack = {}
        for attack in self.attacks:
            assert isinstance(attack, Minimal)
            lengths = []
            for start in range(0, len(y), CHUNK):
                here, labels = x[start : start + CHUNK], y[start : start + CHUNK]
                found = attack.nearest(context.net, here, labels)
                with torch.no_grad():
                    missed = context.net(found).argmax(dim=1) == labels
                length = (found - here).flatten(1).double().norm(dim=1)
                lengths.append(torch.where(missed, torch.inf, length))
            by_attack[attack.kind] = torch.cat(lengths)
        shortest = torch.stack(list(by_attack.values())).amin(dim=0)
        right = shortest > 0
        found = shortest.isfinite()
        size = x.flatten(1).double().norm(dim=1).clamp_min(1e-12)
        means = {f"r_2_{kind}": _mean(length) for kind, length in by_attack.items()}
        return {
            **means,
            "r_2": _mean(shortest),
            "r_2_correct": _mean(shortest[right]),
            "rho": _mean(shortest / size),
            "r_2_found": _share(found[right]),
        }


def _mean(values: Tensor) -> float:
    return float(values[values.isfinite()].mean())


def _share(which: Tensor) -> float:
    return float(which.double().mean())
