"""All that samplers learn from, as plain records in the order in which they were added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from search.space.parameters import Params
from trainables.store.records import State

Origin = Literal["own", "on the way", "transferred"]


@dataclass(frozen=True)
class Observation:
    """A trial, or a point that was measured on the way of one or in another study.

    `trial` is the number of the trial, None for a transferred point, whose `study` is named instead. `values` and
    `violations` are in the order of the problem's objectives and bounds, and `order` counts the complete ones as they
    were learned; of any other that has ended, it says how many were learned before. `attributes` are what the sampler
    returned with its suggestion; a point on the way has those of its trial.
    """

    trial: int | None
    params: Params
    state: State | Literal["running"]
    values: tuple[float, ...] = ()
    violations: tuple[float, ...] = ()
    origin: Origin = "own"
    study: str | None = None
    order: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


class ObservationStore:
    """Observations in the order in which they were added. Records are replaced, never changed."""

    def __init__(self, observations: Iterable[Observation] = ()) -> None:
        """Start with some observations."""
        self._rows: list[Observation] = []
        self._trials: dict[int, int] = {}
        self._learned = 0
        self._complete = 0
        self.changes: list[int] = []
        """Indices of the observations that were added or replaced, in that order: what a cache has to read again."""
        for observation in observations:
            self._add(observation)
            self._complete += observation.state == "complete"
            self._learned = max(self._learned, observation.order or 0)

    def __len__(self) -> int:
        """Count the observations."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Observation]:
        """Iterate over the observations in the order in which they were added."""
        return iter(self._rows)

    def __getitem__(self, index: int) -> Observation:
        """Return the observation that was added as number `index`."""
        return self._rows[index]

    def __contains__(self, number: int) -> bool:
        """Return whether there is a trial with this number."""
        return number in self._trials

    @property
    def complete(self) -> int:
        """How many observations have values."""
        return self._complete

    def learned(self) -> list[Observation]:
        """Return the observations with values, in the order in which they were learned."""
        return sorted((row for row in self._rows if row.state == "complete"), key=lambda row: row.order or 0)

    def begin(self, number: int, params: Params, attributes: Mapping[str, Any]) -> None:
        """Add a running trial."""
        self._add(Observation(number, params, "running", attributes=attributes))

    def end(self, number: int, state: State, values: Sequence[float] = (), violations: Sequence[float] = ()) -> None:
        """End a running trial. A complete one has values and counts as learned; a stopped one may have its last."""
        index = self._trials[number]
        running = self._rows[index]
        assert running.state == "running", f"trial {number} has ended already"
        if state == "complete":
            self._rows[index] = self._numbered(running, values, violations)
        else:
            self._rows[index] = replace(running, state=state, values=tuple(values), order=self._learned)
        self.changes.append(index)

    def add_on_the_way(self, number: int, params: Params, values: Sequence[float], violations: Sequence[float]) -> None:
        """Add a point that trial `number` measured before its end."""
        attributes = self._rows[self._trials[number]].attributes
        point = Observation(number, params, "complete", origin="on the way", attributes=attributes)
        self._add(self._numbered(point, values, violations))

    def add_transferred(self, study: str, params: Params, values: Sequence[float], violations: Sequence[float]) -> None:
        """Add a point of another study."""
        point = Observation(None, params, "complete", origin="transferred", study=study)
        self._add(self._numbered(point, values, violations))

    def _numbered(self, row: Observation, values: Sequence[float], violations: Sequence[float]) -> Observation:
        """Return a complete observation, the last that was learned so far."""
        self._learned += 1
        self._complete += 1
        return replace(
            row,
            state="complete",
            values=tuple(map(float, values)),
            violations=tuple(map(float, violations)),
            order=self._learned,
        )

    def _add(self, row: Observation) -> None:
        if row.origin == "own":
            assert row.trial is not None
            self._trials[row.trial] = len(self._rows)
        self.changes.append(len(self._rows))
        self._rows.append(row)
