"""What is read of a study that fills the table of a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from search.study.spec import Reproduces, StudySpec
from trainables.core.errors import SpecError

if TYPE_CHECKING:
    from search.results.confirmed import ConfirmedRow
    from search.results.table import PointRow
    from search.store.records import Records


class Study(Protocol):
    """What is read of a `search.results.study.Study`, which has these tables."""

    @property
    def spec(self) -> StudySpec: ...

    records: Records

    def points(self) -> list[PointRow]: ...

    def confirmed(self, examples: int | str | None = None) -> list[ConfirmedRow]: ...


def reproduces(spec: StudySpec) -> Reproduces:
    """Return which table of which paper a study fills.

    Raises:
        SpecError: none.
    """
    if spec.reproduces is None:
        raise SpecError(f"{spec.name} fills no table of a paper; `robustsearch reproduce` makes studies that do")
    return spec.reproduces
