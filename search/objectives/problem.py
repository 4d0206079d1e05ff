"""What a search asks for, as plain data: the space, the objectives, and the bounds to keep to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from search.space.parameters import Parameter
from trainables.metrics import Direction


class Goals(Protocol):
    """What measured points are judged by. `StudySpec` and `SearchProblem` both have it."""

    @property
    def objectives(self) -> Mapping[str, Direction]:
        """Direction of each objective, by measure."""

    @property
    def constraints(self) -> Mapping[str, str]:
        """Bound of each constrained measure, such as `>= 0.75`."""

    @property
    def target(self) -> Mapping[str, str]:
        """Bound of each measure of the target."""


@dataclass(frozen=True)
class SearchProblem:
    """What samplers know of a study; `sparsity` is that of trials where the space does not search it."""

    space: Mapping[str, Parameter]
    objectives: Mapping[str, Direction]
    constraints: Mapping[str, str]
    target: Mapping[str, str]
    sparsity: float

    def bounds(self) -> dict[str, tuple[str, str]]:
        """Return measure and bound by name: the constraints, then the target."""
        return bounds(self)


def bounds(goals: Goals) -> dict[str, tuple[str, str]]:
    """Return measure and bound of all that a sampler has to keep to, by name: the constraints, then the target."""
    constraints = {measure: (measure, text) for measure, text in goals.constraints.items()}
    return {**constraints, **{f"target.{measure}": (measure, text) for measure, text in goals.target.items()}}
