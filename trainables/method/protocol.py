"""How a trial is measured: attack, radius, images and metrics, as data."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.core.spec import Eps, Spec, check_radius, located
from trainables.metrics import METRICS
from trainables.metrics.base import Metric


class Protocol(Spec):
    """How robust accuracy is measured; fixed for a study.

    `examples` None takes the whole validation split, a number its first so many images (the split is
    in a random order). `seed` seeds the attack; every trial is attacked with the same draws. `metrics` are recorded
    with each point, and nothing is decided by them. A network with noise on its weights is measured with the noise
    off; with `noise`, by an attack on the mean over `eot` passes per gradient, and as most of `votes` passes say.
    """

    attack: Annotated[Attack, ATTACKS] = Pgd(steps=20)
    eps: Eps = Eps("8/255")
    examples: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)
    metrics: tuple[Annotated[Metric, METRICS], ...] = ()
    noise: bool = False
    eot: int = Field(default=20, gt=0)
    votes: int = Field(default=11, gt=0)

    @model_validator(mode="after")
    def _radius_fits_norm(self) -> Self:
        check_radius(self.eps, self.attack.norm)
        return self

    @model_validator(mode="after")
    def _metrics_can_be_taken(self) -> Self:
        for index, metric in enumerate(self.metrics):
            if any(metric.clashes(earlier) for earlier in self.metrics[:index]):
                message = f"an earlier {metric.kind} gives the same names; leave one out or set another name"
                raise located(message, "metrics", index)
            for attack in metric.attacks_within:
                if attack.norm != self.attack.norm:
                    message = f"{attack.kind} goes by {attack.norm}, but the protocol's radius is in {self.attack.norm}"
                    raise located(message, "metrics", index, value=attack.norm)
        return self

    @property
    def follows(self) -> tuple[int, ...] | None:
        """The epochs of trainings that metrics compare, None if none compares any."""
        wishes = [metric.follows for metric in self.metrics if metric.follows is not None]
        return tuple(sorted({epoch for wish in wishes for epoch in wish})) if wishes else None

    def cheaper(self, examples: int, steps: int) -> Protocol:
        """Return a protocol of at most so many of these examples and attack steps, the first ones, and no metrics."""
        fewer = examples if self.examples is None else min(examples, self.examples)
        return self.model_copy(update={"examples": fewer, "attack": self.attack.cheaper(steps), "metrics": ()})
