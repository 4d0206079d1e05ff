"""How a trial is measured: attack, radius, images and metrics, as data."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.core.registry import reading_opaque
from trainables.core.spec import MAX_SEED, Eps, Spec, check_radius, located
from trainables.metrics import METRICS
from trainables.metrics.base import Metric


class Protocol(Spec):
    """How robust accuracy is measured; fixed for a study."""

    attack: Annotated[Attack, ATTACKS] = Field(default=Pgd(steps=20), description="the attack")
    eps: Eps = Field(default=Eps("8/255"), description="the attack's radius, in pixel units of [0, 1]")
    examples: int | None = Field(
        default=None,
        gt=0,
        description="number of images, the first of the validation split, which is in random order; by default all",
    )
    seed: int = Field(
        default=0, ge=0, le=MAX_SEED, description="seed of the attack, which draws the same for every trial"
    )
    metrics: tuple[Annotated[Metric, METRICS], ...] = Field(
        default=(), description="further numbers recorded with each point; they decide nothing"
    )
    noise: bool = Field(default=False, description="measure a network that has noise on its weights with the noise on")
    eot: int = Field(
        default=20, gt=0, description="with noise: passes that are averaged for each gradient of the attack"
    )
    votes: int = Field(default=11, gt=0, description="with noise: passes whose majority is the predicted class")

    @model_validator(mode="after")
    def _radius_fits_norm(self) -> Self:
        check_radius(self.eps, self.attack.norm)
        return self

    @model_validator(mode="after")
    def _metrics_fit_together(self) -> Self:
        if reading_opaque():  # Only a metric's own class knows its names.
            return self
        for index, metric in enumerate(self.metrics):
            if any(metric.clashes(earlier) for earlier in self.metrics[:index]):
                message = f"an earlier {metric.kind} gives the same names; leave one out or set another name"
                raise located(message, "metrics", index)
            for attack in metric.attacks_within:
                if attack.norm != self.attack.norm:
                    message = f"{attack.kind} is in {attack.norm}, but the protocol's radius is in {self.attack.norm}"
                    raise located(message, "metrics", index, value=attack.norm)
        return self

    @property
    def follows(self) -> tuple[int, ...] | None:
        """The epochs at which metrics compare trainings, None if none does."""
        each = [metric.follows for metric in self.metrics if metric.follows is not None]
        return tuple(sorted({epoch for epochs in each for epoch in epochs})) if each else None

    def cheaper(self, examples: int, steps: int) -> Protocol:
        """Return a protocol of at most the first `examples` examples and `steps` attack steps, without metrics."""
        fewer = examples if self.examples is None else min(examples, self.examples)
        return self.model_copy(update={"examples": fewer, "attack": self.attack.cheaper(steps), "metrics": ()})
