"""The front that workers screen their points against, as far as the sampler has observed it.

Replicates are not screened: their mean may reach a front that one of them does not, and of a screened one there is no
mean.
"""

from __future__ import annotations

from typing import Any

from search import objectives
from search.objectives import pareto
from search.study.spec import StudySpec
from trainables.core.spec import plain
from trainables.method.screening import Screen
from trainables.store.records import Outcome


class Screens:
    """The front of the complete trials of one study, in the measures as they were counted."""

    def __init__(self, spec: StudySpec) -> None:
        """Start without a point."""
        self._spec = spec
        self._screening = None if spec.seeds else spec.screening
        self._front = pareto.Archive()
        self._measures: dict[str, dict[str, float]] = {}

    def add(self, outcome: Outcome) -> None:
        """Add the points of an ended trial."""
        if self._screening is None or outcome.state != "complete":
            return
        for point in outcome.points:
            if not objectives.trusted(point, self._spec) or not objectives.feasible(point, self._spec):
                continue
            if self._front.add(point.key, objectives.values(point, self._spec)):
                self._measures[point.key] = {name: getattr(point, name) for name in self._spec.objectives}

    def now(self) -> dict[str, Any] | None:
        """Return the screen of a trial that starts now, as plain data; None where nothing can be ruled out."""
        if self._screening is None or not self._front.front:
            return None
        front = tuple(self._measures[name] for name in self._front.front)
        return dict(plain(Screen(**plain(self._screening), front=front)))
