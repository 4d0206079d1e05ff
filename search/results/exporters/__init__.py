"""Exporters: a study's tables as files. A format is one module here and one line in `EXPORTERS`."""

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
from search.results.exporters.output import OutputError, write_output
from search.results.exporters.parquet import Parquet
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


def render(study: Study, what: What, format: str, reference: Match | None = None) -> bytes:
    """Return one of a study's tables in one format. An empty table has headings and no row.

    Matching rows of a reference are a table of their own in formats for reading, and further rows in all others.

    Raises:
        OutputError: the format is unknown.
        PluginError: it is none of ours, and a plug-in of the study cannot be imported.
    """
    if format not in EXPORTERS and study.spec.plugins:
        load_plugins(study.spec.plugins, current_folder())  # Nothing else can know the format that is asked for.
    if format not in EXPORTERS:
        raise OutputError(
            f"unknown export format '{format}'; allowed: {', '.join(EXPORTERS)}{nearest(format, EXPORTERS)}"
        )
    exporter = EXPORTERS.parse(format)
    table = study.table(what, own_params=exporter.for_reading)
    if reference is None or not reference.rows:
        return exporter.render(table, what=what, study=study.name)
    from search.results.references import tables

    if not exporter.for_reading:
        return exporter.render(tables.appended(table, reference), what=what, study=study.name)
    beside = exporter.render(tables.table(reference, table), what=REFERENCE, study=study.name)
    return exporter.render(table, what=what, study=study.name) + b"\n" + beside


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

    The file is written atomically. A regular file of that name is replaced; nothing else is, and no record of the
    study.

    Raises:
        OutputError: the format is unknown or not for stdout, or the output cannot be written there.
        StorageError: the disk is full or failing.
    """
    if output is not None:
        return write_output(render(study, what, format, reference), output, records=study.records.storage.local)
    content = text(study, what, format, reference).encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return None


def format_of(output: Path | None, given: str | None = None) -> str:
    """Return the format to write: the `given` one, else that of the file name's suffix; CSV where there is none.

    Raises:
        OutputError: the suffix is that of no format, or not that of the given one.
    """
    suffix = output.suffix.lower() if output else ""
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
