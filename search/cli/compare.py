"""The command that compares studies."""

from __future__ import annotations

from pathlib import Path

import click

from search.cli.root import Command, answer, examples, storage_options
from search.files.messages import say
from search.store.catalogue import DEFAULT_STORAGE


@click.command(
    cls=Command,
    epilog=examples(
        "compare hydra harp --output compare.pdf",
        "compare 'hydra=hydra-*' harp=harp-1,harp-2,harp-3 --confirmed",
    ),
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--confirmed", is_flag=True, help="Compare the confirmed points instead of the search's estimates.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="A picture (.png, .pdf, .svg) or the tables (.csv, .parquet, .json, .md, .tex).",
)
@storage_options
def compare(names: tuple[str, ...], confirmed: bool, output: Path | None, storage: str | None, as_json: bool) -> None:
    """Compare studies: hypervolume, attainment, and which is more robust at which sparsity.

    A NAME with a label, as in LABEL=NAME,NAME, is a group: repeats of one search, compared as one. In a NAME, `*`
    stands for any text; quote it.
    """
    from search.cli.console import show_tables
    from search.results.compare import comparison, facts, groups
    from search.results.compare import output as files
    from trainables.store.storage import Storage

    if output is not None:
        files.check(output)
    found = comparison.compare(groups.groups_of(Storage(storage or DEFAULT_STORAGE), names), confirmed=confirmed)
    written = {} if output is None else {"output": str(files.write(found, output))}
    answer(as_json, {**facts.plain(found), **written}, lambda: show_tables(facts.readables(found)))
    for note in found.notes:
        say(f"note: {note}")
    if written:
        say(f"wrote {written['output']}")
