"""Ask and tell: one store of observations, and the study's sampler, which suggests the next trial from it.

Every call that changes the store is a plain function of what the records hold, so replaying them in order gives the
observations of an uninterrupted search, and the sampler of trial n has nothing else but the seed and n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.samplers.base import Forecaster, SamplerContext, alone
from search.samplers.observations import ObservationStore
from search.space.parameters import Params, active, canonical_value
from search.study.spec import StudySpec
from trainables.core.errors import SpecError
from trainables.store.records import State


class Sampling:
    """The sampler of one study and its observations, by trial number."""

    def __init__(self, spec: StudySpec, forecast: Forecaster = alone) -> None:
        """Start with no trials; `forecast` says what samplers know of the trials that they may suggest."""
        self.spec = spec
        self.problem = spec.problem()
        self.observations = ObservationStore()
        self.outside = 0
        """How many points the space could not have produced; no sampler sees them."""
        self._forecast = forecast
        self._bounds = len(self.problem.bounds())

    def ask(self, number: int, given: Mapping[str, Any] | None = None) -> tuple[Params, dict[str, Any]]:
        """Return the parameters of trial `number`: the active ones, in the order of the space.

        Where they are `given`, the sampler has no choice. The second result is what `adopt` needs beside them: plain
        data.

        Raises:
            SpecError: the sampler suggests what is not in the space, which is a defect of a plug-in.
        """
        assert number not in self.observations, f"trial {number} was issued already"
        self._forget()
        sampler = self.spec.sampler
        context = SamplerContext(self.spec.seed, number, self.problem, self.observations, self._forecast)
        made = sampler.suggest(context) if given is None else sampler.enqueued(context, dict(given))
        params = self._known(made.params)
        if params is None:
            raise SpecError(f"sampler '{sampler.kind}' suggests {made.params}, which is not in the space of the study")
        self.observations.begin(number, params, made.attributes)
        return params, dict(made.attributes)

    def adopt(self, number: int, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        """Add a trial that was issued before, by this process or an earlier one, as running."""
        assert number not in self.observations, f"trial {number} was issued already"
        self._forget()
        self.observations.begin(number, self._known(params) or dict(params), dict(attributes))

    def tell(
        self, number: int, state: State, values: Sequence[float] | None = None, violations: Sequence[float] = ()
    ) -> None:
        """End a trial. Without all values, finite, a complete one counts as failed: no trial runs for ever."""
        measured = self._finite(values)
        if state == "complete" and not (measured and self._comparable(violations)):
            state = "failed"
        self.observations.end(number, state, values if values and measured else (), violations)

    def add_observation(
        self, number: int, params: Mapping[str, Any], values: Sequence[float] | None, violations: Sequence[float] = ()
    ) -> bool:
        """Add a point that was measured on the way of trial `number`, as if it were a trial with `params`.

        Return whether it was added: not where a value is missing or the space could not have produced the point.
        """
        point = self._point(params, values, violations)
        if point is not None:
            self.observations.add_on_the_way(number, *point)
        return point is not None

    def add_transferred(
        self, study: str, params: Mapping[str, Any], values: Sequence[float] | None, violations: Sequence[float] = ()
    ) -> bool:
        """Add a point of another study, before the first trial; return as `add_observation` does."""
        assert all(row.origin == "transferred" for row in self.observations), "points of other studies come first"
        point = self._point(params, values, violations)
        if point is not None:
            self.observations.add_transferred(study, *point)
        return point is not None

    def _point(
        self, params: Mapping[str, Any], values: Sequence[float] | None, violations: Sequence[float]
    ) -> tuple[Params, Sequence[float], Sequence[float]] | None:
        """Return what is added of a point; None for one that no sampler can learn from."""
        known = self._known(params)
        if known is None:
            self.outside += 1
            return None
        if values is None or not self._finite(values) or not self._comparable(violations):
            return None
        return known, values, violations

    def _known(self, params: Mapping[str, Any]) -> Params | None:
        """Return the active parameters with one number for each value of a grid; None outside of the space."""
        space = self.problem.space
        known = active(space, params)
        return None if known is None else {path: canonical_value(space[path], value) for path, value in known.items()}

    def _forget(self) -> None:
        """Keep the better half where the sampler has twice as many points as it is to see."""
        most = self.spec.sampler.most
        if most is not None and self.observations.complete >= 2 * most:
            from search.samplers.points import forget

            self.observations = forget(self.observations, most, self.problem, self.spec.seed)

    def _finite(self, values: Sequence[float] | None) -> bool:
        if values is None:
            return False
        objectives = len(self.problem.objectives)
        assert len(values) == objectives, f"{len(values)} values for {objectives} objectives"
        return all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)

    def _comparable(self, violations: Sequence[float]) -> bool:
        assert len(violations) in (0, self._bounds), f"{len(violations)} violations do not fit the study"
        return len(violations) == self._bounds and not any(map(math.isnan, violations))
