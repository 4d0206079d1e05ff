"""What a sampler is: it suggests the parameters of one trial, from the observations so far."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from search.objectives.problem import SearchProblem
from search.samplers.observations import ObservationStore
from search.space.parameters import Parameter, Params, identity
from trainables.core.rng import derive
from trainables.core.spec import Spec


@dataclass(frozen=True)
class Forecast:
    """What a trial would measure, in order, and what that costs.

    `points` are the parameters that each measurement stands for; a measurement that no trial of the space would end
    with is left out. `epochs` are the epochs to train up to each, from the start of the trial; stages that are stored
    or being computed cost nothing. `known` is True where the measurement itself is stored or being computed.
    """

    points: tuple[Params, ...]
    epochs: tuple[int, ...]
    known: tuple[bool, ...]

    @cached_property
    def names(self) -> tuple[tuple[Any, ...], ...]:
        """The identity of each point."""
        return tuple(identity(point) for point in self.points)


Forecaster = Callable[[Params], Forecast]
"""Returns the forecast of a trial with given parameters; raises `SpecError` where no trial can have them."""


def alone(params: Params) -> Forecast:
    """Return the forecast of a trial of which nothing is known: one new point for one epoch."""
    return Forecast((dict(params),), (1,), (False,))


@dataclass(frozen=True)
class SamplerContext:
    """What a sampler chooses the parameters of trial `number` from. Nothing but `seed` and `number` seeds it."""

    seed: int
    number: int
    problem: SearchProblem
    observations: ObservationStore = field(default_factory=ObservationStore)
    forecast: Forecaster = alone


@dataclass(frozen=True)
class Suggestion:
    """Parameters of a trial, and what the sampler must find again when the search resumes: JSON-able data."""

    params: Params
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Sampler(Spec):
    """Base of every sampler. It keeps nothing between trials: its state is the observations.

    Where suggestions get slower with the number of observations, `most` bounds it: of twice as many, the better half
    is kept, the front first.
    """

    kind: str
    most: ClassVar[int | None] = None

    @abstractmethod
    def suggest(self, context: SamplerContext) -> Suggestion:
        """Return the parameters of one trial: those of the space that are active together."""

    def load(self) -> None:
        """Import what `suggest` needs; a launch calls it while it waits for something else."""

    def trials(self, space: Mapping[str, Parameter], enqueued: Collection[Params]) -> int | None:
        """Return how many trials there are to suggest, with those that are `enqueued`; None where there is no end."""
        return None

    def every(self, space: Mapping[str, Parameter]) -> Iterator[Params]:
        """Yield the parameters of all trials where they depend on the space alone; otherwise nothing."""
        yield from ()

    def enqueued(self, context: SamplerContext, params: Params) -> Suggestion:
        """Take the parameters that the study file gives for a trial, in place of a suggestion."""
        return Suggestion(dict(params))


def trial_seed(context: SamplerContext) -> int:
    """Return the 32-bit seed of the sampler of one trial."""
    return derive(context.seed, "sampler", context.number) % 2**32
