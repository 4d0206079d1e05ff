"""A study, whole: what is trained, what is searched, what for, how it is measured, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from search.early_stopping.base import Off, Scheduler
from search.early_stopping.registry import SCHEDULERS
from search.files.diagnostics import dotted, problems, shown
from search.files.fields import Bound, Duration, Module, Name, Size, bound
from search.objectives.problem import SearchProblem, bounds
from search.samplers.base import Sampler
from search.samplers.ehvi.sampler import Ehvi
from search.samplers.registry import SAMPLERS
from search.space.parameters import Params, Scalar, Space, meant
from search.study.space_check import Problem, wrong_enqueued, wrong_space
from search.study.trials import TrialTemplate, rewind_epochs
from trainables.core.errors import SpecError
from trainables.core.registry import nearest
from trainables.core.spec import Spec, plain
from trainables.data import DATASETS
from trainables.data.base import Data
from trainables.method.protocol import Protocol
from trainables.method.screening import Screening
from trainables.metrics import MEASURES, NONZERO, ROBUST_ACCURACY, SPARSITY, Direction
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe
from trainables.recipes.trial import TrialSpec

_COUNTS = ("nonzero", "macs_effective")


class Budget(Spec):
    """When the search ends: whichever is reached first. `wall_time` is in seconds or a text such as `30m`."""

    trials: int = Field(default=32, gt=0)
    gpu_hours: float | None = Field(default=None, gt=0)
    wall_time: Duration | None = None


class StudySpec(Spec):
    """One study.

    `space` maps dotted paths below `recipe` or `model` to parameters; what it does not name stays as
    `recipe` and `model` say. Trials with the parameters in `enqueue` run first; studies named in `warm_start` teach
    the sampler before the first trial. A `deterministic` search asks for trials in rounds of `round`, each when the
    one before it has ended, so that it is the same however fast its workers are. `max_failures` is how often a trial is
    tried again; when the first `abort_after` trials all fail the same way, the search stops. Stored stages beyond
    `stage_storage` bytes are dropped, the least useful first.
    """

    schema_number: Literal[1] = Field(default=1, alias="schema")
    name: Name
    description: str = ""
    data: Annotated[Data, DATASETS]
    model: Annotated[Model, MODELS]
    recipe: Annotated[Recipe, RECIPES]
    space: Space = {}
    objectives: dict[str, Direction] = Field(default={ROBUST_ACCURACY: "maximise", SPARSITY: "maximise"}, min_length=1)
    constraints: dict[str, Bound] = {}
    target: dict[str, Bound] = {}
    protocol: Protocol = Protocol()
    sampler: Annotated[Sampler, SAMPLERS] = Ehvi()
    enqueue: tuple[dict[str, Scalar], ...] = ()
    warm_start: tuple[Name, ...] = ()
    early_stopping: Annotated[Scheduler, SCHEDULERS] = Off()
    screening: Screening | None = None
    budget: Budget = Budget()
    max_failures: int = Field(default=2, ge=0)
    abort_after: int = Field(default=3, gt=0)
    seed: int = Field(default=0, ge=0)
    deterministic: bool = False
    round: int = Field(default=4, gt=0)
    stage_storage: Size | None = None
    plugins: tuple[Module, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        plain_trial = self._template().plain
        wrong = [*_wrong_measures(self), *wrong_space(self.space, plain_trial)]
        wrong = wrong or [*wrong_enqueued(self.space, self.enqueue, plain_trial), *_repeated(self)]
        if wrong:
            details = [
                InitErrorDetails(type=PydanticCustomError("inconsistent", "{m}", {"m": message}), loc=loc, input=None)
                for loc, message in wrong
            ]
            raise ValidationError.from_exception_data("", details)
        return self

    def trial(self, params: Mapping[str, Any]) -> TrialSpec:
        """Apply sampled values and return the trial; every trial has the study's seed, so equal phases have equal keys.

        Raises:
            SpecError: a value is not possible; the message names the parameter.
        """
        data = self._template().plain(params)
        try:
            return TrialSpec.model_validate(data)
        except ValidationError as error:
            found = problems(error, data, TrialSpec)
            lines = [f"{dotted(path)}: {message}" for path, message in found]
            given = ", ".join(f"{path} = {shown(value)}" for path, value in params.items())
            raise SpecError("\n".join([f"no trial can have {given or 'the default values'}", *lines])) from None

    def _template(self) -> TrialTemplate:
        return TrialTemplate(
            self.model, self.recipe, self.data, self.protocol, self.seed, self.plugins, rewind_epochs(self.space)
        )

    def problem(self) -> SearchProblem:
        """Return what samplers know of the study."""
        return SearchProblem(self.space, self.objectives, self.constraints, self.target, self.recipe.sparsity)

    def bounds(self) -> dict[str, tuple[str, str]]:
        """Return measure and bound of all that a sampler has to keep to, by name."""
        return bounds(self)

    def queue(self) -> list[Params]:
        """Return the parameters of the trials in `enqueue`, in the order of the space."""
        return [
            {path: meant(parameter, given[path]) for path, parameter in self.space.items() if path in given}
            for given in self.enqueue
        ]

    def resolved(self) -> dict[str, Any]:
        """Return the study as plain data with every default written out."""
        data = plain(self)
        return {"schema": data.pop("schema_number"), **data}


def _repeated(study: StudySpec) -> Iterator[Problem]:
    for index, name in enumerate(study.warm_start):
        if name in study.warm_start[:index]:
            yield ("warm_start", index), f"'{name}' is named twice"


def _wrong_measures(study: StudySpec) -> Iterator[Problem]:
    """Check that objectives and constraints name measures and ask for what is possible and better."""
    known = ", ".join(MEASURES)
    bounded = (("constraints", study.constraints), ("target", study.target))
    for section, names in (("objectives", study.objectives), *bounded):
        for measure in names:
            if measure not in MEASURES:
                hint = nearest(measure, MEASURES)
                yield (section, measure), f"'{measure}' is not measured{hint}; allowed: {known}"
    for measure, direction in study.objectives.items():
        if MEASURES.get(measure, direction) != direction:
            better = MEASURES[measure]
            yield (
                ("objectives", measure),
                f"less is not better here: {measure} can only be {better}d"
                if (better == "maximise")
                else f"more is not better here: {measure} can only be {better}d",
            )
    for section, texts in bounded:
        for measure, text in texts.items():
            number = bound(text)[1]
            if measure in MEASURES and measure not in _COUNTS and number > 1:
                slip = f"; did you mean {number / 100:g}?" if number <= 100 else ""
                yield (section, measure), f"{measure} is a fraction from 0 to 1, {number:g} is none{slip}"
    if study.target and SPARSITY not in study.objectives:
        yield ("target",), f"a target asks for the sparsest network that reaches it; {SPARSITY} must be an objective"
    for measure in {SPARSITY, NONZERO} & study.target.keys():
        yield ("target", measure), "a target is what the sparsest network is to reach; bound this with `constraints`"


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a study file, for editors."""
    schema = StudySpec.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "robustsearch study"}
