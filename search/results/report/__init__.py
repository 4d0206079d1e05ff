"""The report of a study: one HTML file with charts, tables and all data within it, which fetches nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.results.exporters.output import write_output
from search.results.report import contents
from search.results.report.gather import Gathered, gather
from search.results.report.page import page

if TYPE_CHECKING:
    from search.results.references.match import Match
    from search.results.study import Study


def render(study: Study, *, refresh: float | None = None, reference: Match | None = None) -> str:
    """Return the report as HTML; equal records give an equal page, while no launch runs.

    With `refresh` the page loads itself again after so many seconds, and keeps what is opened and chosen in it.
    """
    return _page(gather(study, reference), study, refresh)


def _page(found: Gathered, study: Study, refresh: float | None = None) -> str:
    values, data = contents.of(found, study)
    return page("report.html.j2", values, {**data, "refresh": refresh}, charts=True)


def write(study: Study, output: Path, reference: Match | None = None) -> dict[str, Any]:
    """Write the report to a file and return what a program is told of it.

    Raises:
        OutputError: the output cannot be written there.
        StorageError: the disk is full or failing, or the study cannot be read.
    """
    found = gather(study, reference)
    content = _page(found, study).encode()
    written = write_output(content, output, records=study.records.storage.local)
    counts = {
        "points": len(found.points),
        "front": len(found.front),
        "confirmed": sum(row.complete for row in found.confirmed),
    }
    return {"study": study.name, "output": str(written), "bytes": len(content), **counts}
