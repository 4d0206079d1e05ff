"""The command that measures and writes an entry of the adversarial pruning benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from search.cli.root import Command, answer, examples, name_argument, opened, storage_options
from search.files.messages import say


@click.command(
    "benchmark-entry",
    cls=Command,
    epilog=examples(
        "benchmark-entry my-study t17.2 --ap-key Ours_Doe2026Sparse --output entry",
        "benchmark-entry my-study t17.2 --ap-key Ours_Doe2026Sparse --output look --examples 200",
    ),
)
@name_argument
@click.argument("point")
@click.option("--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The directory to write.")
@click.option(
    "--ap-key", required=True, metavar="KEY", help="The benchmark's key of the method: Method_AuthorYearWord."
)
@click.option("--paper", default="", metavar="URL", help="The link to the method's paper.")
@click.option(
    "--examples",
    "count",
    type=click.IntRange(1, 9999),
    metavar="N",
    help="Measure the first N test images only: no entry.",
)
@storage_options
def benchmark_entry(
    name: str,
    point: str,
    output: Path,
    ap_key: str,
    paper: str,
    count: int | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Measure a point as the adversarial pruning benchmark does, and write the files of an entry.

    It runs AutoAttack on the first 10,000 test images at eps = 0.031, on a GPU if there is one: a CPU takes days.
    """
    from search.results import benchmark_entry as entries

    study = opened(storage, name)
    written = entries.write(study, point, output, ap_key=ap_key, link=paper, examples=count, report=say)
    facts: dict[str, Any] = {"output": str(written.path), **written.measured}
    answer(as_json, facts, lambda: _show(written))


def _show(written: Any) -> None:
    found = written.measured
    shares = ", ".join(
        f"{label} {100 * found[name]:.2f} %"
        for name, label in (("clean", "clean"), ("autoattack", "AutoAttack"), ("fmn", "FMN"))
    )
    say(f"{written.key}: {shares}")
    kind = f"a quick look at {found['examples']} images, which is not an entry," if written.quick else "the entry"
    say(f"wrote {kind} to {written.path}")
