"""Exporters: a study's tables as files, or its trials as directories of other tools.

A format is one module here and one line in `EXPORTERS`, or for a directory in `TRACKERS`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from search.results.exporters.base import REFERENCE, Exporter, What
from search.results.exporters.csv import Csv
from search.results.exporters.html import Html
from search.results.exporters.json import Json
from search.results.exporters.latex import Latex
from search.results.exporters.markdown import Markdown
from search.results.exporters.mlflow import MLflow
from search.results.exporters.output import OutputError, check_new, full_disk_reported, write_directory, write_output
from search.results.exporters.parquet import Parquet
from search.results.exporters.runs import runs
from search.results.exporters.tensorboard import TensorBoard
from search.results.exporters.tracker import Tracker
from search.results.exporters.wandb import WandB
from trainables.core.plugins import current_folder
from trainables.core.plugins import load as load_plugins
from trainables.core.registry import Registry, nearest

if TYPE_CHECKING:
    from search.results.references.match import Match
    from search.results.study import Study

EXPORTERS: Registry[Exporter] = Registry(
    "exporter",
    Exporter,
    {"csv": Csv, "parquet": Parquet, "json": Json, "markdown": Markdown, "latex": Latex, "html": Html},
)
TRACKERS: Registry[Tracker] = Registry(
    "tracker", Tracker, {"mlflow": MLflow, "tensorboard": TensorBoard, "wandb": WandB}
)


def render(study: Study, what: What, format: str, reference: Match | None = None) -> bytes:
    """Return one of a study's tables in one format. An empty table has headings and no row.

    Matching rows of a reference are a table of their own in formats for reading, and further rows in all others.

    Raises:
        OutputError: the format is unknown, a directory, or one table by itself, and a reference is asked for.
        PluginError: it is none of ours, and a plug-in of the study cannot be imported.
    """
    _check(study, format)
    if format in TRACKERS:
        raise OutputError(f"{format} writes a directory; name one with --output")
    exporter = EXPORTERS.parse(format)
    table = study.table(what, own_params=exporter.for_reading)
    if reference is None or not reference.rows:
        return exporter.render(table, what=what, study=study.name)
    from search.results.references import tables

    if not exporter.for_reading:
        return exporter.render(tables.appended(table, reference), what=what, study=study.name)
    if isinstance(exporter, Html):
        raise OutputError("a page of html has one table: leave --reference out, or give it to `robustsearch report`")
    beside = exporter.render(tables.table(reference, table), what=REFERENCE, study=study.name)
    return exporter.render(table, what=what, study=study.name) + b"\n" + beside


def _check(study: Study, format: str) -> None:
    """Refuse an unknown format, unless a plug-in of the study knows it."""
    if not _known(format) and study.spec.plugins:
        load_plugins(study.spec.plugins, current_folder())  # Nothing else can know the format that is asked for.
    if not _known(format):
        formats = [*EXPORTERS, *TRACKERS]
        raise OutputError(f"unknown export format '{format}'; allowed: {', '.join(formats)}{nearest(format, formats)}")


def _known(format: str) -> bool:
    return format in EXPORTERS or format in TRACKERS


def text(study: Study, what: What, format: str, reference: Match | None = None) -> str:
    """Return one of a study's tables in a format that is text.

    Raises:
        OutputError: the format is unknown, or binary.
    """
    content = render(study, what, format, reference)
    if not EXPORTERS[format].text:
        raise OutputError(f"{format} is a binary format; name a file with --output")
    return content.decode()


def export(study: Study, what: What, format: str, output: Path | None, reference: Match | None = None) -> Path | None:
    """Write one of a study's tables to `output`, or to stdout where that is None, and return the path.

    A tracker writes all trials, whatever `what` says, to a new directory. File or directory appear once they are
    complete. A regular file of that name is replaced; nothing else is, and no record of the study.

    Raises:
        OutputError: the format is unknown or not for stdout, its library is not installed, or the output cannot be
            written there.
        StorageError: the disk is full or failing.
    """
    home = study.records.storage.local
    _check(study, format)
    if format in TRACKERS and output is not None:
        return _track(study, TRACKERS.parse(format), output)
    if output is not None:
        return write_output(render(study, what, format, reference), output, records=home)
    content = text(study, what, format, reference).encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return None


def _track(study: Study, tracker: Tracker, output: Path) -> Path:
    tracker.check()
    check_new(output)
    found = runs(study)
    if not found:
        raise OutputError(f"{study.name} has no trial yet: there is nothing to write to {output}")

    def write(folder: Path) -> None:
        with full_disk_reported(output):
            tracker.write(found, folder, output)

    return write_directory(write, output, records=study.records.storage.local)


def format_of(output: Path | None, given: str | None = None) -> str:
    """Return the format to write: the `given` one, else that of the file name's suffix; CSV where there is none.

    Raises:
        OutputError: the suffix is that of no format, or not that of the given one.
    """
    suffix = output.suffix.lower() if output else ""
    if given is not None and given in TRACKERS:
        return given  # A directory has any name.
    if given is not None:
        wanted = EXPORTERS[given].suffix if given in EXPORTERS else suffix
        if suffix not in ("", ".txt", wanted):
            raise OutputError(f"{output}: the name of a {given} file ends in {wanted}, or leave --format out")
        return given
    kinds = {exporter.suffix: kind for kind, exporter in EXPORTERS.items()}
    if suffix and suffix not in kinds:
        raise OutputError(
            f"{output}: no format is written to {suffix} files; allowed: {', '.join(kinds)}, or any name "
            f"that ends in .txt with --format"
        )
    return kinds.get(suffix, "csv")
