"""The command that fills a paper's table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.cli.root import Command, answer, examples, storage_options
from search.files import interrupts
from search.files.messages import emit, failed, prints_on_stderr, say
from trainables.core.errors import ExitCode, SpecError

if TYPE_CHECKING:
    from search.launch.plan import Plan
    from search.study.spec import StudySpec


class Share(click.FloatRange):
    """A range of numbers; NaN, which is beyond no bound, is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number, and refuse one that is outside."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


@click.command(
    cls=Command,
    epilog=examples(
        "reproduce cosentino2019 --table mnist",
        "reproduce cosentino2019 --table mnist --scale 0.05   # everything shortened alike",
        "reproduce piras2024 --recipe hydra --cluster clusters/gpu.yaml",
    ),
)
@click.argument("paper", required=False)
@click.option("--table", "table", metavar="TABLE", help="The table [default: all of the paper, one after the other].")
@click.option("--recipe", metavar="RECIPE", help="The method, for tables named after one.")
@click.option(
    "--scale",
    type=Share(min=0, max=1, min_open=True),
    default=1.0,
    show_default=True,
    help="Length of everything that counts epochs or steps, as a fraction of the published one.",
)
@click.option("--seeds", type=click.IntRange(min=1, max=100), help="Replicates [default: the paper's runs].")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the study; repeatable.")
@click.option("--name", help="Run the study under another name.")
@click.option(
    "--cluster",
    metavar="FILE",
    help="Where trials run: a cluster file, or `inline` for this process without Ray [default: Ray on this machine].",
)
@click.option("--dry-run", is_flag=True, help="Check everything, print what would run, and start nothing.")
@click.option("--format", "format_", default="markdown", show_default=True, help="The format of the table.")
@click.option("--output", type=click.Path(path_type=Path), help="The file to write the table to [default: stdout].")
@storage_options
def reproduce(
    paper: str | None,
    table: str | None,
    recipe: str | None,
    scale: float,
    seeds: int | None,
    overrides: tuple[str, ...],
    name: str | None,
    cluster: str | None,
    dry_run: bool,
    format_: str,
    output: Path | None,
    storage: str | None,
    as_json: bool,
) -> int:
    """Run the study behind a paper's table, and print the table beside the paper's numbers.

    Without PAPER, lists the papers and their tables. The study has the published length and hyperparameters, where
    they are known; the same command resumes it, and `export NAME --what paper` writes its table at any time.
    """
    from search.study import reproduction
    from search.study.spec import Reproduces

    if paper is None:
        known = {name: reproduction.paper(name) for name in reproduction.names()}
        listed = {name: {key: table.title for key, table in each.tables.items()} for name, each in known.items()}
        answer(as_json, {"papers": listed}, lambda: _list(listed))
        return ExitCode.DONE
    if recipe and table:
        raise SpecError("give --table or --recipe, not both")
    wanted = recipe or table
    tables = [wanted] if wanted else list(reproduction.paper(paper).tables)
    if len(tables) > 1 and (output or name):
        raise SpecError(f"{paper} has the tables {', '.join(tables)}; choose one with --table to name what it makes")
    found = []
    for each in tables:
        of = Reproduces(paper=paper, table=each, scale=scale)
        plan = _plan(reproduction.study(of, seeds, overrides), cluster, storage, name, dry_run, as_json)
        code, facts = _dry_run(plan, as_json) if dry_run else _run(plan, format_, output, as_json)
        found.append(facts)
        if code != ExitCode.DONE:
            break
    if as_json:
        emit({"tables": found, **failed(str(found[-1].get("message", "")), code)})
    return code


def _list(papers: Mapping[str, Mapping[str, str]]) -> None:
    for name, tables in papers.items():
        for table, title in tables.items():
            print(f"{name} --table {table}: {title}")


def _plan(
    spec: StudySpec, cluster: str | None, storage: str | None, name: str | None, dry: bool, as_json: bool
) -> Plan:
    from search.launch.api import plan

    with prints_on_stderr(as_json):
        return plan(spec.resolved(), cluster=cluster, storage=storage, name=name, allow_change=True, dry=dry)


def _dry_run(plan: Plan, as_json: bool) -> tuple[ExitCode, dict[str, Any]]:
    """Print what would run; as JSON-able data, return it."""
    from search.cli.console import show_facts
    from search.launch.dry_run import plan_data, plan_facts

    if as_json:
        return ExitCode.DONE, plan_data(plan)
    show_facts(plan_facts(plan))
    return ExitCode.DONE, {}


def _run(plan: Plan, format_: str, output: Path | None, as_json: bool) -> tuple[ExitCode, dict[str, Any]]:
    """Launch the study of a table and print the table; as JSON-able data, return it."""
    from search.cli.launch import run
    from search.cluster.watchdog import Interrupt
    from search.results import exporters
    from search.results.paper.caption import caption
    from search.results.paper.cells import filled
    from search.store import catalogue
    from search.study import reproduction

    with Interrupt(signal=interrupts.noted()).caught():
        study, ending = run(plan, 0, as_json)
    say(ending.message)
    facts: dict[str, Any] = {"study": plan.spec.name, "message": ending.message}
    if study is None:
        return ending.exit_code, facts
    if output is not None:
        exporters.export(study, "paper", format_, output)
        say(f"wrote {output}")
    if as_json:
        tables = {what: study.table(what).to_pylist() for what in ("paper", "claims")}
        return ending.exit_code, {**facts, "caption": caption(study), **tables}
    ended = ending.exit_code in (ExitCode.DONE, ExitCode.NO_FEASIBLE_POINT, ExitCode.TRIALS_FAILED)
    if not ended:
        named = catalogue.arguments(plan.storage)
        say(f"next: the same command resumes it; `robustsearch export {named} --what paper` shows what there is so far")
    if ended or any(cell.values for cell in filled(study)):
        assert study.spec.reproduces is not None
        claims = reproduction.table(study.spec.reproduces).claims
        if output is None:
            print(exporters.text(study, "paper", format_))
        if claims:
            print(exporters.text(study, "claims", format_))
    return ending.exit_code, facts
