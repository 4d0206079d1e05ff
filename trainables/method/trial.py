"""A trial, whole: what data, what network, what recipe, measured how, with which seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.core.keys import key
from trainables.core.spec import Eps, Spec, check_radius, located
from trainables.data import DATASETS
from trainables.data.base import Data
from trainables.method.phases import Init, Measure, Phase, Train
from trainables.metrics import METRICS
from trainables.metrics.base import Metric
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe


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


class TrialSpec(Spec):
    """One trial. Plain data: it travels to the worker as JSON.

    `snapshots` are epochs of the first training whose weights are kept, beyond what the recipe
    asks for: those that other trials of the study may rewind to.
    """

    data: Annotated[Data, DATASETS]
    model: Annotated[Model, MODELS]
    recipe: Annotated[Recipe, RECIPES]
    protocol: Protocol = Protocol()
    seed: int = Field(default=0, ge=0)
    plugins: tuple[str, ...] = ()
    snapshots: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _images_are_left_to_train_on(self) -> Self:
        held, limit = self.recipe.train.select, self.data.limit
        if limit is not None and held >= limit:
            message = f"holding back {held} of {limit} training images (data.limit) leaves none to train on"
            raise located(message, "recipe", "train", "select", value=held)
        return self


@dataclass(frozen=True)
class KeyedPhase:
    """A phase with the key of its result and the key of the state it starts from."""

    phase: Phase
    key: str
    parent: str | None


def keyed_phases(trial: TrialSpec, fingerprint: str, named: Callable[..., str] = key) -> tuple[KeyedPhase, ...]:
    """Expand a trial to its phases with their keys.

    A measurement leaves the state as it is, so the phase after it has the key it would have
    had without it. `fingerprint` is the data's content hash; `named` says what a phase's key is, for callers that
    need not know each.
    """
    root = Init(model=trial.model, seed=trial.seed)
    chain = [KeyedPhase(root, named(root, None, data=trial.data, fingerprint=fingerprint), None)]
    state = chain[0].key
    wanted = {epoch for epoch in trial.snapshots if epoch > 0}
    follows = trial.protocol.follows or ()
    for phase in trial.recipe.phases():
        followed = {epoch for epoch in follows if isinstance(phase, Train) and epoch > phase.first}
        if isinstance(phase, Train) and (wanted or followed):
            kept = sorted(wanted | followed | set(phase.snapshots))
            phase = phase.model_copy(update={"snapshots": tuple(e for e in kept if e < phase.end)})
            wanted = set()
        if isinstance(phase, Measure):
            chain.append(KeyedPhase(phase, named(phase, state, protocol=trial.protocol), state))
        else:
            chain.append(KeyedPhase(phase, named(phase, state), state))
            state = chain[-1].key
    return tuple(chain)
