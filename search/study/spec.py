"""The study: what is trained and searched, for which objectives, how it is measured, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from search.early_stopping.base import Off, Scheduler
from search.early_stopping.registry import SCHEDULERS
from search.files.diagnostics import dotted, problems, shown
from search.files.fields import Bound, Duration, Module, Name, Size, bound
from search.objectives import COUNTS
from search.objectives.problem import SearchProblem, bounds
from search.samplers.base import Sampler
from search.samplers.ehvi.sampler import Ehvi
from search.samplers.registry import SAMPLERS
from search.space.parameters import MAX_GRID, Params, Space
from search.study.enqueued import MAX_ENQUEUED, Enqueued, expanded, wrong_enqueued
from search.study.space_check import Problem, corner_trials, wrong_space
from search.study.trials import TrialTemplate, rewind_epochs
from trainables.core.errors import SpecError
from trainables.core.registry import nearest, reading_opaque
from trainables.core.spec import MAX_SEED, Spec, plain
from trainables.data import DATASETS
from trainables.data.base import Data, wrong_sizes
from trainables.method.phases import Train
from trainables.method.protocol import Protocol
from trainables.method.screening import Screening
from trainables.metrics import MEASURES, NONZERO, ROBUST_ACCURACY, SPARSITY, Direction
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe
from trainables.recipes.trial import TrialSpec
from trainables.store.records import LARGEST

TRIALS = 32
"""The default number of trials, where the sampler has no end of its own."""


class Budget(Spec):
    """When the search ends: at the first of these limits."""

    trials: int | None = Field(
        default=None,
        gt=0,
        lt=10**12,
        description="Total number of trials; null: all of a grid, else 32, for each of `seeds`.",
    )
    gpu_hours: float | None = Field(
        default=None, gt=0, description="Sum of the times of all trials, times the GPUs per trial; null for no limit."
    )
    wall_time: Duration | None = Field(
        default=None, description="Duration of one launch: seconds, or a text such as 30m; null for no limit."
    )


class Reproduces(Spec):
    """The table of a paper that a study fills."""

    paper: str = Field(max_length=64, description="Name of the paper.")
    table: str = Field(max_length=64, description="Name of its table.")
    scale: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Length of all trainings, as a fraction of the published one.",
    )


class Timeouts(Spec):
    """How long a trial may take; one that takes longer is ended and recorded as failed (`timeout`)."""

    silence: Duration | None = Field(
        default=3600.0,
        description="Limit of the time in which a trial shows no progress: not a batch, a step of an attack, an image "
        "read; null for no limit.",
    )
    trial: Duration | None = Field(
        default=None, description="Limit of the time that a worker works on a trial; null for no limit."
    )


class StudySpec(Spec):
    """One study, as its file describes it."""

    schema_number: Literal[1] = Field(default=1, alias="schema", description="Version of this format.")
    name: Name = Field(description="Name of the study and of its directory.")
    description: str = Field(default="", description="Free text.")
    data: Annotated[Data, DATASETS] = Field(description="Training data.")
    model: Annotated[Model, MODELS] = Field(description="The network.")
    recipe: Annotated[Recipe, RECIPES] = Field(description="How the network is trained and pruned.")
    space: Space = Field(
        default={},
        max_length=256,
        description="Searched parameters, by dotted path below recipe or model; all other fields keep their values.",
    )
    objectives: dict[str, Direction] = Field(
        default={ROBUST_ACCURACY: "maximise", SPARSITY: "maximise"},
        min_length=1,
        description="Direction of each objective, by measure.",
    )
    constraints: dict[str, Bound] = Field(
        default={}, description="Bound of each constraint, by measure, such as '>= 0.75'; other points are infeasible."
    )
    target: dict[str, Bound] = Field(
        default={}, description="Bounds that the sparsest network has to reach, by measure; the search looks for it."
    )
    protocol: Protocol = Field(default=Protocol(), description="How robust accuracy is measured.")
    measure_at: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        default=(),
        max_length=1000,
        description="Epochs of every training after which its network is measured, as a point like that of its end.",
    )
    sampler: Annotated[Sampler, SAMPLERS] = Field(default=Ehvi(), description="What chooses the parameters of trials.")
    enqueue: tuple[Enqueued, ...] = Field(
        default=(),
        max_length=MAX_ENQUEUED,
        description="Parameters of trials that run first; where values are lists, every combination is a trial.",
    )
    warm_start: tuple[Name, ...] = Field(
        default=(),
        max_length=100,
        description="Studies in the same storage whose points the sampler learns from before the first trial.",
    )
    early_stopping: Annotated[Scheduler, SCHEDULERS] = Field(
        default=Off(), description="Which trials end before they are complete."
    )
    screening: Screening | None = Field(default=None, description="Measures points cheaply first; null for never.")
    budget: Budget = Field(default=Budget(), description="When the search ends.")
    timeouts: Timeouts = Field(default=Timeouts(), description="When a trial that hangs is ended.")
    max_failures: int = Field(default=2, ge=0, description="How often a trial whose process died is run again.")
    abort_after: int = Field(
        default=3, gt=0, description="The launch ends where this many first trials all fail with the same class."
    )
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of the sampler and of all trials.")
    seeds: tuple[Annotated[int, Field(ge=0, le=LARGEST)], ...] = Field(
        default=(),
        max_length=100,
        description="Seeds of replicates: each configuration is run as one trial per seed, and judged by their means; "
        "empty: one trial, with `seed`.",
    )
    shrink: bool | None = Field(
        default=None,
        description="Train and measure networks without the filters that were pruned whole, which takes less time and "
        "changes last digits; null: true in a new study, false in one that was made without this field.",
    )
    sparse: bool | None = Field(
        default=None,
        description="Attack perceptrons of which nine tenths are pruned by sparse matrices in training, which changes "
        "last digits; null: where a worker measures them to be faster in a new study, not in one that was made without "
        "this field.",
    )
    deterministic: bool = Field(
        default=False,
        description="Ask for trials in rounds, each after the one before has ended: the search then does not depend on "
        "the speed of its workers.",
    )
    round: int = Field(default=4, gt=0, description="Trials per round of a deterministic search.")
    stage_storage: Size | None = Field(
        default=None,
        description="Limit for stored stages: bytes, or a text such as 20GB. Above it the least useful stages are "
        "dropped; null for no limit.",
    )
    reproduces: Reproduces | None = Field(
        default=None, description="The table of a paper that the study fills; `robustsearch reproduce` writes it."
    )
    plugins: tuple[Module, ...] = Field(
        default=(), max_length=100, description="Modules to import, whose kinds the study may name."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if reading_opaque():  # Nothing is known of what such kinds accept; the study was checked when it was made.
            return self
        plain_trial = self._template().plain
        wrong = [*_wrong_measures(self), *_wrong_data(self.data), *wrong_space(self.space, plain_trial)]
        wrong = wrong or [
            *wrong_enqueued(self.space, self.enqueue, plain_trial),
            *_repeated(self),
            *_wrong_grid(self),
            *_never_due(self),
        ]
        if wrong:
            details = [
                InitErrorDetails(type=PydanticCustomError("inconsistent", "{m}", {"m": message}), loc=loc, input=None)
                for loc, message in wrong
            ]
            raise ValidationError.from_exception_data("", details)
        return self

    @property
    def replicates(self) -> tuple[int, ...]:
        """The seeds of the trials of one configuration."""
        return self.seeds or (self.seed,)

    @property
    def planned(self) -> int:
        """How many trials the study is to have, replicates included."""
        end = self.sampler.trials(self.space, self.enqueued())
        whole = None if end is None else end * len(self.replicates)
        asked = self.budget.trials or whole or TRIALS * len(self.replicates)
        return asked if whole is None else min(asked, whole)

    def trial(self, params: Mapping[str, Any], seed: int | None = None) -> TrialSpec:
        """Apply sampled values and return the trial with a seed; trials of one seed have equal keys for equal phases.

        By default it is the first of the study's seeds.

        Raises:
            SpecError: a value is not possible; the message names the parameter.
        """
        data = {**self._template().plain(params), "seed": self.replicates[0] if seed is None else seed}
        try:
            return TrialSpec.model_validate(data)
        except ValidationError as error:
            found = problems(error, data, TrialSpec)
            lines = [f"{dotted(path)}: {message}" for path, message in found]
            given = ", ".join(f"{path} = {shown(value)}" for path, value in params.items())
            raise SpecError("\n".join([f"no trial can have {given or 'the default values'}", *lines])) from None

    def _template(self) -> TrialTemplate:
        return TrialTemplate(
            model=self.model,
            recipe=self.recipe,
            data=self.data,
            protocol=self.protocol,
            seed=self.seed,
            plugins=self.plugins,
            snapshots=rewind_epochs(self.space),
            measure_at=self.measure_at,
            shrink=bool(self.shrink),
            sparse=bool(self.sparse),
        )

    def problem(self) -> SearchProblem:
        """Return what samplers know of the study."""
        return SearchProblem(self.space, self.objectives, self.constraints, self.target, self.recipe.sparsity)

    def bounds(self) -> dict[str, tuple[str, str]]:
        """Return measure and bound of all that a sampler has to keep to, by name."""
        return bounds(self)

    def enqueued(self) -> list[Params]:
        """Return the parameters of the trials in `enqueue`, in the order of the space."""
        return [params for given in self.enqueue for params in expanded(self.space, given)]

    def resolved(self) -> dict[str, Any]:
        """Return the study as plain data with every default written out."""
        data = plain(self)
        return {"schema": data.pop("schema_number"), **data}


def _repeated(study: StudySpec) -> Iterator[Problem]:
    for index, name in enumerate(study.warm_start):
        if name in study.warm_start[:index]:
            yield ("warm_start", index), f"'{name}' is named twice"
    for index, seed in enumerate(study.seeds):
        if seed in study.seeds[:index]:
            yield ("seeds", index), f"{seed} is named twice"


def _wrong_grid(study: StudySpec) -> Iterator[Problem]:
    if (study.sampler.trials(study.space, ()) or 0) > MAX_GRID:
        yield ("sampler",), f"this space has more than {MAX_GRID:,} combinations, too many for a {study.sampler.kind}"


def _never_due(study: StudySpec) -> Iterator[Problem]:
    """Check that what is measured or followed within trainings comes due in some trial."""
    followed = [(index, metric.follows or ()) for index, metric in enumerate(study.protocol.metrics)]
    if not study.measure_at and not any(epochs for _, epochs in followed):
        return
    longest = compared = 0
    for trial in corner_trials(study.space, study.trial):
        if ends := [phase.end for phase in trial.recipe.phases() if isinstance(phase, Train)]:
            longest = max(longest, *ends)
            compared = max(compared, min(ends[0], max(ends[1:], default=0)))
    for index, epoch in enumerate(study.measure_at):
        if epoch >= longest:
            message = f"no training is longer than {longest} epochs, so nothing would be measured after {epoch}"
            yield ("measure_at", index), message
        elif epoch in study.measure_at[:index]:
            yield ("measure_at", index), f"{epoch} is named twice"
    for index, epochs in followed:
        if late := [epoch for epoch in epochs if epoch > compared]:
            most = f"of {compared} epochs at most" if compared else "none: no trial has two"
            message = f"nothing would be compared after {late[0]} epochs; the trainings that are compared are {most}"
            yield ("protocol", "metrics", index, "epochs"), message


def _wrong_data(data: Data) -> Iterator[Problem]:
    """Check that a data set of known size has as many images as the study asks for."""
    if data.training_images is not None and (wrong := wrong_sizes(data, data.training_images)):
        field, message = wrong
        yield ("data", field), message


def _wrong_measures(study: StudySpec) -> Iterator[Problem]:
    """Check that objectives and constraints name measures and ask for what is possible and better."""
    known = ", ".join(MEASURES)
    bounded = (("constraints", study.constraints), ("target", study.target))
    for section, names in (("objectives", study.objectives), *bounded):
        for measure in names:
            if measure not in MEASURES:
                hint = nearest(measure, MEASURES)
                yield (section, measure), f"'{measure}' is not a measure{hint}; allowed: {known}"
    for measure, direction in study.objectives.items():
        if MEASURES.get(measure, direction) != direction:
            less = "less" if direction == "minimise" else "more"
            yield ("objectives", measure), f"{less} {measure} is not better; write {MEASURES[measure]}"
    for section, texts in bounded:
        for measure, text in texts.items():
            number = bound(text)[1]
            if measure in MEASURES and measure not in COUNTS and number > 1:
                slip = f"; did you mean {number / 100:g}?" if number <= 100 else ""
                yield (section, measure), f"{measure} is a fraction from 0 to 1, {number:g} is none{slip}"
    if study.target and SPARSITY not in study.objectives:
        yield ("target",), f"a target asks for the sparsest network that reaches it; {SPARSITY} must be an objective"
    for measure in sorted({SPARSITY, NONZERO} & study.target.keys()):
        yield (
            ("target", measure),
            f"a target bounds what the sparsest network has to reach; bound {measure} with `constraints`",
        )


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a study file, for editors."""
    schema = StudySpec.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "robustsearch study"}
