"""The command line. It loads torch, Ray, Optuna and the rest only where a command needs them."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from search.files.messages import emit, failed, say
from search.store.catalogue import DEFAULT_STORAGE, STORAGE_VARIABLE
from trainables import __version__
from trainables.core.errors import RobustsearchError

BUG, USAGE, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141

F = TypeVar("F", bound=Callable[..., Any])


class _Root(click.Group):
    """The one place where an error becomes a message and an exit code; commands return theirs, None for 0."""

    def main(self, args: Any = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        """Run a command and exit with its code."""
        arguments = [str(arg) for arg in (sys.argv[1:] if args is None else args)]
        extra["standalone_mode"] = False
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # A terminal without UTF-8 is no reason to fail.
        try:
            code = super().main(arguments, "robustsearch", *rest, **extra)
        except click.exceptions.Abort:
            code = _report("interrupted", INTERRUPTED, arguments)
        except click.ClickException as error:
            code = _report(_usage(error), USAGE, arguments)
        except RobustsearchError as error:
            code = _report(str(error), error.exit_code, arguments)
        except Exception as error:
            traceback.print_exc()
            summary = f"{type(error).__name__}: {error}"
            code = _report(f"this is a bug in robustsearch, please report it: {summary}", BUG, arguments)
        sys.exit(code or 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that has closed the pipe ends it quietly."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            # What is still buffered has no reader; Python would complain about it at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        return code


def _usage(error: click.ClickException) -> str:
    hint = ""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.UsageError) and context is not None:
        hint = f" (`{context.command_path} --help` says what is allowed)"
    return error.format_message() + hint


def _report(message: str, exit_code: int, arguments: list[str]) -> int:
    """Say what went wrong: to a person on stderr, and with `--json` to a program on stdout too."""
    say(f"error: {message}")
    if "--json" in arguments:
        emit(failed(message, exit_code))
    return exit_code


def _json(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def _storage(command: F) -> F:
    text = f"Where studies are kept, a directory or a URI [default: ${STORAGE_VARIABLE}, else ./{DEFAULT_STORAGE}]."
    return click.option("--storage", metavar="PLACE", envvar=STORAGE_VARIABLE, help=text)(command)


def _placed(command: F) -> F:
    return _storage(_json(command))


def _name(command: F) -> F:
    return click.argument("name")(command)


def _open(storage: str | None, name: str) -> Any:
    from search.results.study import open_study
    from trainables.store.storage import Storage

    return open_study(Storage(storage or DEFAULT_STORAGE), name)


def _answer(as_json: bool, facts: dict[str, Any], show: Callable[[], None]) -> None:
    """Print the facts as JSON, or show them to a person."""
    if as_json:
        emit(facts)
    else:
        show()


EXIT_CODES = (
    "Exit codes: 0 done, 1 a bug, 2 bad input, 3 no feasible point, 4 too many trials failed, 5 storage, 6 cluster, "
    "130 or 143 interrupted (launch again to go on)."
)


@click.group(
    cls=_Root, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="robustsearch")
def main() -> None:
    """Map how much adversarial robustness a network can have at which sparsity.

    `robustsearch launch` runs a search; it ends with a Pareto front.
    """


@main.command()
@click.argument("study", default="quickstart")
@click.option("--cluster", metavar="FILE", help="Where trials run, a cluster file [default: this machine].")
@click.option("--name", help="Run it under another name.")
@click.option("--trials", metavar="N|+N", help="How many trials in all, or how many more.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the study, as in recipe.epochs=20."
)
@click.option("--allow-change", is_flag=True, help="Extend the space of a study that exists; says what it means.")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would run, and start nothing.")
@_placed
def launch(
    study: str,
    cluster: str | None,
    name: str | None,
    trials: str | None,
    overrides: tuple[str, ...],
    allow_change: bool,
    dry_run: bool,
    storage: str | None,
    as_json: bool,
) -> int:
    """Run a search, or go on with one.

    STUDY is a YAML file, a built-in study (see `robustsearch studies`), or the name of one in the
    storage. What is interrupted goes on when it is launched again.
    """
    from search.launch.api import plan as check

    options: Any = {"name": name, "trials": trials, "allow_change": allow_change}
    plan = check(study, cluster=cluster, storage=storage, overrides=overrides, dry=dry_run, **options)
    if dry_run:
        from search.cli.console import show_facts
        from search.launch.dry_run import plan_data, plan_facts

        _answer(as_json, plan_data(plan), lambda: show_facts(plan_facts(plan)))
        return 0
    from search.cli import progress
    from search.cli.ending import show_ending
    from search.launch import run as launching

    for line in (*plan.effects, plan.cluster.opening()):
        say(line)
    found = None
    with progress.view(plain=as_json or not plan.cluster.live_view) as view:
        try:
            found = launching.launch(plan, view=view, say=say, owns_process=True)
            ending = found.ending
        except launching.NotStarted as early:
            ending = early.ending
    assert ending is not None
    show_ending(plan.spec.name, found, ending, as_json)
    return int(ending.exit_code)


@main.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_json
def validate(files: tuple[str, ...], as_json: bool) -> int:
    """Check study and cluster files."""
    from search.launch.validate import check_file

    found = [check_file(file) for file in files]
    wrong = [result for result in found if result.error is not None]
    for result in found:
        if result.error is not None:
            say(f"error: {result.error}")
        elif not as_json:
            print(f"{result.file}: ok, {result.summary}")
    code = USAGE if wrong else 0
    if as_json:
        reason = "\n".join(str(result.error) for result in wrong)
        emit({"files": [result.plain() for result in found], **failed(reason, code)})
    return code


@main.group(invoke_without_command=True)
@_json
@click.pass_context
def studies(context: click.Context, as_json: bool) -> None:
    """List the built-in studies."""
    if context.invoked_subcommand is not None:
        return
    from search.cli.console import show_facts
    from search.study import file as study_file

    found = {name: study_file.load(name).description for name in study_file.builtin_names()}
    facts = {"studies": [{"name": name, "description": text} for name, text in found.items()]}
    _answer(as_json, facts, lambda: show_facts(found))


@studies.command("show")
@_name
@_json
def show(name: str, as_json: bool) -> None:
    """Print the YAML of a built-in study."""
    from search.study import file as study_file

    text = study_file.builtin_text(name)
    resolved = study_file.load(name).resolved()
    _answer(as_json, {"name": name, "yaml": text, "study": resolved}, lambda: print(text, end=""))


@main.command()
@click.argument("name", required=False)
@_placed
def status(name: str | None, storage: str | None, as_json: bool) -> None:
    """Say where a study stands, or list the studies of the storage."""
    if name is None:
        _list(storage, as_json)
        return
    from search.cli.console import show_status
    from search.results.status import status as state_of

    state = state_of(_open(storage, name))
    _answer(as_json, state.plain(), lambda: show_status(state))


def _list(storage: str | None, as_json: bool) -> None:
    from dataclasses import asdict

    from search.cli.console import show_studies
    from search.results.study import summaries
    from trainables.store.storage import Storage

    place = Storage(storage or DEFAULT_STORAGE)
    found, broken = summaries(place)
    facts = {"storage": place.location, "studies": [asdict(summary) for summary in found], "damaged": broken}
    _answer(as_json, facts, lambda: show_studies(found, broken, place.location))


@main.command()
@_name
@_placed
def stop(name: str, storage: str | None, as_json: bool) -> None:
    """End a running launch; launching again goes on."""
    from search.store import driver_lock

    place = _open(storage, name).records.storage
    driver = driver_lock.driver(place)
    if driver is not None:
        driver_lock.request_stop(place)
        message = f"asked {driver} to stop {name}; trials under way save their progress"
    else:
        message = f"no launch of {name} is running"
    facts = {"study": name, "driver": str(driver) if driver else None, "message": message}
    _answer(as_json, facts, lambda: say(message))


@main.command()
@_name
@_placed
def front(name: str, storage: str | None, as_json: bool) -> int:
    """Print the Pareto front.

    Where it is empty, the points that come nearest are listed; the exit code is 3.
    """
    from search.cli.console import show_front
    from search.results.status import front_of

    study = _open(storage, name)
    found = front_of(study)
    code = 0 if found["front"] else 3
    _answer(as_json, {**found, **failed("no feasible point", code)}, lambda: show_front(study))
    return code


@main.command()
@_name
@click.option(
    "--format",
    "format_",
    metavar="FORMAT",
    help="csv, parquet, json, markdown or latex [default: by the name of the output, else csv].",
)
@click.option("--what", type=click.Choice(["front", "points", "trials"]), default="points", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="The file to write [default: stdout].")
@_placed
def export(name: str, format_: str | None, what: Any, output: Path | None, storage: str | None, as_json: bool) -> None:
    """Write a table of a study."""
    from search.results import exporters

    study = _open(storage, name)
    kind = format_ or exporters.format_of(output)
    if as_json and output is None:
        emit({"format": kind, "what": what, "content": exporters.text(study, what, kind)})
    elif (written := exporters.export(study, what, kind, output)) is not None:
        facts = {"output": str(written), "format": kind, "what": what}
        _answer(as_json, facts, lambda: say(f"wrote {written}"))


@main.command()
@_name
@click.option("--output", type=click.Path(path_type=Path), help="A .png, .pdf or .svg [default: NAME-front.pdf].")
@_placed
def plot(name: str, output: Path | None, storage: str | None, as_json: bool) -> None:
    """Draw the front with its intervals."""
    from search.results import plot as drawing

    written = drawing.plot(_open(storage, name), output or Path(f"{name}-front.pdf"))
    _answer(as_json, {"output": str(written)}, lambda: say(f"wrote {written}"))


@main.command()
@_name
@click.argument("point")
@click.option("--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The directory to write.")
@click.option("--shrink", is_flag=True, help="Leave out filters that were pruned whole: smaller dense layers.")
@_placed
def model(name: str, point: str, output: Path, shrink: bool, storage: str | None, as_json: bool) -> None:
    """Write a point's network: weights (safetensors) and card (JSON)."""
    from search.results import model_export

    written = model_export.save(_open(storage, name), point, output, shrink=shrink)
    _answer(as_json, {"output": str(written)}, lambda: say(f"wrote {written}"))


@main.command()
@_name
@click.option("--dry-run", is_flag=True, help="Say what would be dropped, and drop nothing.")
@_placed
def gc(name: str, dry_run: bool, storage: str | None, as_json: bool) -> None:
    """Drop stored stages that no front point and no unfinished trial needs."""
    from search.results.table import front_stages
    from search.store import driver_lock
    from search.store.gc import StageCollector

    records = _open(storage, name).records
    with driver_lock.acquire(records.storage):
        collector = StageCollector(records, lambda: front_stages(records.spec, records.trials()))
        swept = collector.sweep(dry=dry_run)
    facts = {"study": name, "dry_run": dry_run, **swept.plain()}
    _answer(as_json, facts, lambda: say(f"{name}: {swept.says('would drop' if dry_run else 'dropped')}"))


@main.command()
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@_json
def init(directory: Path, as_json: bool) -> None:
    """Write a commented study and cluster files to edit."""
    from search.launch import init as scaffold

    written = scaffold.write(directory)
    if as_json:
        emit({"written": [str(path) for path in written]})
    else:
        print(*written, sep="\n")
        say(f"edit {written[0]}, then `robustsearch launch {written[0]}`")


@main.command()
@click.argument("name", required=False)
@click.option("--cluster", metavar="FILE", help="A cluster file [default: this machine].")
@_placed
def doctor(name: str | None, cluster: str | None, storage: str | None, as_json: bool) -> int:
    """Look for what would stop a launch here, or for damage in the study NAME."""
    from search.cli.console import show_findings
    from search.launch import doctor as examining

    if name is not None and cluster is not None:
        raise click.UsageError("a study or a cluster can be looked at, not both at once")
    findings = examining.examine(cluster, storage) if name is None else examining.examine_study(name, storage)
    reasons = [finding.message for finding in findings if finding.level == "fail"]
    code = (examining.EXIT_CODE if name is None else examining.DAMAGED) if reasons else 0
    facts = {"findings": [finding.plain() for finding in findings], **failed("; ".join(reasons), code)}
    _answer(as_json, facts, lambda: show_findings(findings))
    return code


@main.command()
@_name
@_placed
def repair(name: str, storage: str | None, as_json: bool) -> int:
    """Set aside what is torn in a study, and rebuild the rest from its records."""
    from search.store.catalogue import damaged_place
    from search.store.repair import repair as restore
    from trainables.store.storage import Storage

    found = restore(damaged_place(Storage(storage or DEFAULT_STORAGE), name))
    facts = {"study": name, **found.plain(), **failed(found.summary, found.exit_code)}
    _answer(as_json, facts, lambda: say("\n".join([*found.lines(), found.summary])))
    return found.exit_code
