"""The distance to the nearest misclassified input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.minimal import CarliniWagner, DeepFool, Minimal, distances
from trainables.core.registry import reading_opaque
from trainables.core.spec import located
from trainables.metrics.base import Metric, MetricContext

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 100


class Distance(Metric):
    """The l2 distance to the nearest misclassified input that the attacks find, an upper bound of the true distance.

    The distance of an image that is misclassified itself is 0. `r_2_<attack>`: the mean for one attack; `r_2`: of the
    shortest over all; `r_2_correct`: of that over the correctly classified images, so that it does not depend on the
    accuracy; `rho`: of `r_2` over the image's own length; `r_2_found`: the share of the correctly classified images for
    which any attack found an input. Images for which none did count in no mean.
    Source: r_2 is that of Guo et al. 2018, arXiv:1810.09619; rho that of Moosavi-Dezfooli et al. 2016.
    """

    kind: Literal["distance"] = "distance"
    attacks: tuple[Annotated[Attack, ATTACKS], ...] = Field(
        default=(DeepFool(), CarliniWagner(steps=200, searches=6, lr=0.02, constant=0.1)),
        description="attacks that minimise a distance, each of another kind",
    )
    examples: int | None = Field(
        default=200, gt=0, description="number of images, the first of the protocol's; null: all"
    )

    @model_validator(mode="after")
    def _minimal(self) -> Self:
        for index, attack in enumerate(self.attacks):
            if not reading_opaque() and not (isinstance(attack, Minimal) and attack.norm == "l2"):
                what = (
                    f"measures distances in {attack.norm}" if isinstance(attack, Minimal) else "minimises no distance"
                )
                message = f"{attack.kind} {what}; allowed, in l2: deepfool, cw, fab, fmn"
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
                images, labels = x[start : start + CHUNK], y[start : start + CHUNK]
                lengths.append(distances(attack, context.net, images, labels))
            by_attack[attack.kind] = torch.cat(lengths)
        shortest = torch.stack(list(by_attack.values())).amin(dim=0)
        correctly = shortest > 0
        found = shortest.isfinite()
        size = x.flatten(1).double().norm(dim=1).clamp_min(1e-12)
        means = {f"r_2_{kind}": _mean(length) for kind, length in by_attack.items()}
        return {
            **means,
            "r_2": _mean(shortest),
            "r_2_correct": _mean(shortest[correctly]),
            "rho": _mean(shortest / size),
            "r_2_found": _share(found[correctly]),
        }


def _mean(values: Tensor) -> float:
    return float(values[values.isfinite()].mean())


def _share(which: Tensor) -> float:
    return float(which.double().mean())
