"""One trial as data: the data set, network, recipe, protocol and seed, and the key of each of its phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from trainables.core.errors import SpecError
from trainables.core.keys import key
from trainables.core.registry import reading_opaque
from trainables.core.spec import MAX_SEED, Spec, located
from trainables.data import DATASETS
from trainables.data.base import Data, trained_on
from trainables.method.phases import EpochPhase, Imitate, Inherit, Init, Measure, Phase, Prune, Rewind, Snapshot, Train
from trainables.method.protocol import Protocol
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe

SPARSE = 0.9
"""The sparsity from which perceptrons are attacked by sparse matrices."""


class TrialSpec(Spec):
    """One trial. It travels to the worker as JSON."""

    data: Annotated[Data, DATASETS]
    model: Annotated[Model, MODELS]
    recipe: Annotated[Recipe, RECIPES]
    protocol: Protocol = Protocol()
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    plugins: tuple[str, ...] = Field(default=(), description="modules to import before the trial is read")
    snapshots: tuple[int, ...] = Field(
        default=(), description="epochs of the first training to which other trials of the study may rewind"
    )
    measure_at: tuple[int, ...] = Field(
        default=(), description="epochs of every training after which its network is measured, besides its end"
    )
    shrink: bool = Field(
        default=False, description="train and measure networks without the filters that were pruned whole"
    )
    sparse: bool = Field(default=False, description="attack very sparse perceptrons in training by sparse matrices")

    @model_validator(mode="after")
    def _images_are_left_to_train_on(self) -> Self:
        select, limit = self.recipe.train.select, self.data.limit
        if limit is not None and select >= limit:
            message = f"holding back {select} of {limit} training images (data.limit) leaves none to train on"
            raise located(message, "recipe", "train", "select", value=select)
        return self

    @model_validator(mode="after")
    def _rescaled_weights_are_trained(self) -> Self:
        if reading_opaque():
            return self
        for phase, after in pairwise(self.recipe.phases()):
            match phase, after:
                case (Imitate() as cut, _) | (Prune() as cut, Rewind()) if cut.pruning.rescale:
                    message = "the pruned weights are replaced before they are trained, so rescaling has no effect"
                    raise located(message, "recipe", "prune", "rescale", value=True)
        return self

    def phases(self) -> Iterator[Phase]:
        """Yield the phases after the initialisation: those of the recipe, and measurements within its trainings.

        Trainings store what the study rewinds to, what its metrics follow, and what is measured within them.
        """
        found = _shrunk(self._phases()) if self.shrink else self._phases()
        return _sparse(found) if self.sparse and self.model.perceptron else found

    def _phases(self) -> Iterator[Phase]:
        wanted = {epoch for epoch in self.snapshots if epoch > 0}
        follows = self.protocol.follows or ()
        for phase in self.recipe.phases():
            if not isinstance(phase, Train):
                yield phase
                continue
            within = [epoch for epoch in self.measure_at if phase.first < epoch < phase.end]
            kept = wanted | {epoch for epoch in (*follows, *within) if epoch > phase.first}
            if kept:
                epochs = sorted(epoch for epoch in kept | set(phase.snapshots) if epoch < phase.end)
                phase = phase.model_copy(update={"snapshots": tuple(epochs)})
                wanted = set()
            yield phase
            for epoch in within:
                yield Snapshot(epoch=epoch)
                yield Measure(epoch=epoch)

    @model_validator(mode="after")
    def _everything_comes_due(self) -> Self:
        if (images := trained_on(self.data)) is not None and not reading_opaque():
            self._check_lengths(images)
        return self

    def check_lengths(self, images: int) -> None:
        """Refuse what never comes due where there are so many images to train on.

        Raises:
            SpecError: names the field and the length.
        """
        try:
            self._check_lengths(images)
        except ValidationError as error:
            problem = error.errors()[0]
            raise SpecError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None

    def _check_lengths(self, images: int) -> None:
        for phase in self.recipe.phases():
            if not isinstance(phase, EpochPhase):
                continue
            try:
                phase.check_length(images)
            except ValidationError as error:
                problem = error.errors()[0]
                first, *rest = problem["loc"]
                place = self.recipe.places.get(str(first), (first,))
                raise located(problem["msg"], "recipe", *place, *rest, value=problem["input"]) from None


def _shrunk(phases: Iterator[Phase]) -> Iterator[Phase]:
    """Say which phases leave out filters that were pruned whole: measurements, trainings in which none can regrow."""
    cut = False
    for phase in phases:
        if isinstance(phase, (Prune, Imitate)):
            cut = cut or phase.pruning.structure == "filter"
        elif isinstance(phase, Inherit):
            cut = False
        elif cut and (isinstance(phase, Measure) or (isinstance(phase, Train) and phase.whole_because is None)):
            phase = phase.model_copy(update={"shrunk": True})
        yield phase


def _sparse(phases: Iterator[Phase]) -> Iterator[Phase]:
    """Say which trainings of a perceptron attack it by sparse matrices: in single precision, with masks that stay."""
    cut = False
    for phase in phases:
        if isinstance(phase, (Prune, Imitate)):
            cut = phase.pruning.structure == "unstructured" and phase.sparsity >= SPARSE
        elif isinstance(phase, Inherit):
            cut = False
        elif cut and isinstance(phase, Train) and _attacks_exactly(phase):
            phase = phase.model_copy(update={"sparse": True})
        yield phase


def _attacks_exactly(phase: Train) -> bool:
    """Return whether a training attacks fixed masks in single precision."""
    settings = phase.training
    return phase.whole_because is None and settings.precision == "fp32" and settings.loss.attacks


@dataclass(frozen=True)
class KeyedPhase:
    """A phase with the key of its result and the key of the state it starts from."""

    phase: Phase
    key: str
    parent: str | None


def keyed_phases(trial: TrialSpec, fingerprint: str, named: Callable[..., str] = key) -> tuple[KeyedPhase, ...]:
    """Expand a trial to its phases with their keys.

    A measurement does not change the state, so the phase after it has the same key as without it; nor does a snapshot.
    `fingerprint` is the data's content hash; `named` returns a phase's key, for callers that cache keys.
    """
    root = Init(model=trial.model, seed=trial.seed)
    phases = [KeyedPhase(root, named(root, None, data=trial.data, fingerprint=fingerprint), None)]
    state = snapshot = phases[0].key
    for phase in trial.phases():
        if isinstance(phase, Measure):
            measured = state if phase.epoch is None else snapshot
            phases.append(KeyedPhase(phase, named(phase, measured, protocol=trial.protocol), measured))
        elif isinstance(phase, Snapshot):
            snapshot = named(phase, state)
            phases.append(KeyedPhase(phase, snapshot, state))
        else:
            phases.append(KeyedPhase(phase, named(phase, state), state))
            state = phases[-1].key
    return tuple(phases)
