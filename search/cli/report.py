"""The command that writes a study's report."""

from __future__ import annotations

from pathlib import Path

import click

from search.cli.references import REFERENCE_OPTION, matched
from search.cli.root import Command, answer, examples, name_argument, opened, storage_options
from search.files.messages import say


@click.command(cls=Command, epilog=examples("report quickstart", "report quickstart --output quickstart.html"))
@name_argument
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="PATH", help="The file to write [default: NAME-report.html]."
)
@REFERENCE_OPTION
@storage_options
def report(name: str, output: Path | None, reference: str | None, storage: str | None, as_json: bool) -> None:
    """Write a report to read in a browser: one HTML file with charts and tables, which needs no network."""
    from search.results import report as reports

    study = opened(storage, name)
    facts = reports.write(study, output or Path(f"{name}-report.html"), matched(study, reference))
    answer(as_json, facts, lambda: say(f"wrote {facts['output']} ({facts['bytes'] / 1e6:.1f} MB)"))
