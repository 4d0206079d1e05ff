"""Commands that run a search: launch, stop, and what checks files and machines before."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from search.cli.root import Command, answer, examples, json_option, name_argument, storage_options
from search.files import interrupts
from search.files.messages import emit, failed, prints_on_stderr, say
from search.store.catalogue import DEFAULT_STORAGE
from trainables.core.errors import ExitCode

if TYPE_CHECKING:
    from search.launch.plan import Plan
    from search.results.study import Ending, Study

LONGEST_WAIT = 10**6
"""Seconds, eleven days."""


@click.command(
    cls=Command,
    epilog=examples(
        "launch",
        "launch my-study.yaml --cluster clusters/gpu.yaml",
        "launch quickstart --trials +20        # resume with 20 more trials",
        "launch quickstart --set recipe.epochs=20 --name short --dry-run",
    ),
)
@click.argument("study", default="quickstart")
@click.option(
    "--cluster",
    metavar="FILE",
    help="Where trials run: a cluster file, or `inline` for this process without Ray [default: Ray on this machine].",
)
@click.option("--name", help="Run the study under another name.")
@click.option("--trials", metavar="N|+N", help="Total number of trials, or with + how many more.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the study; repeatable.")
@click.option("--allow-change", is_flag=True, help="Change a stored study, such as its space, and print what it means.")
@click.option("--dry-run", is_flag=True, help="Check everything, print what would run, and start nothing.")
@click.option("--detach", is_flag=True, help="Submit the launch as a job to a cluster, and return.")
@click.option(
    "--render",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the files of the job to a directory, and submit nothing.",
)
@click.option(
    "--wait",
    type=click.IntRange(min=0, max=LONGEST_WAIT),
    default=0,
    metavar="SECONDS",
    help="How long to wait for another launch of the study, which may be dead, and then for room on the cluster.",
)
@storage_options
def launch(
    study: str,
    cluster: str | None,
    name: str | None,
    trials: str | None,
    overrides: tuple[str, ...],
    allow_change: bool,
    dry_run: bool,
    detach: bool,
    render: Path | None,
    wait: int,
    storage: str | None,
    as_json: bool,
) -> int:
    """Run a search, or resume one that was interrupted.

    Every finished trial is recorded and trials checkpoint as they train, so nothing has to be saved by hand: launch the
    same study again, and it resumes with the trials that have not ended. Monitor it with the progress shown here, with
    `robustsearch status NAME`, or on the Ray dashboard. The first Ctrl-C saves the running trials and ends the launch;
    a second one ends it at once.

    On a cluster that runs launches as jobs, this submits the job, or finds the one that is running, and follows the
    study's records. Ctrl-C then asks whether to leave the job running or to stop it.
    """
    from search.launch.api import plan as check

    asked: Any = {"name": name, "trials": trials, "allow_change": allow_change}
    with prints_on_stderr(as_json):
        plan = check(study, cluster=cluster, storage=storage, overrides=overrides, dry=dry_run, **asked)
    if dry_run:
        from search.cli.console import show_facts
        from search.launch.dry_run import plan_data, plan_facts

        answer(as_json, plan_data(plan), lambda: show_facts(plan_facts(plan)))
        return ExitCode.DONE
    from search.cli import jobs
    from search.cli.summaries import show_ending
    from search.cluster.carriers.base import Remote
    from search.cluster.watchdog import Interrupt

    if not isinstance(plan.cluster, Remote):
        jobs.refuse_local(detach, render)
    if render is not None:
        jobs.render(plan, render, as_json)
        return ExitCode.DONE
    if detach:
        jobs.detach(plan, as_json)
        return ExitCode.DONE

    with Interrupt(signal=interrupts.noted()).caught():  # Until the last line is printed.
        found, ending = run(plan, wait, as_json)
        show_ending(plan.spec.name, found, ending, as_json)
        if not as_json:
            options = {"--cluster": cluster, "--name": name, "--storage": _typed(storage)}
            # A budget of the file that is larger would count again.
            total = None if trials is None else plan.spec.planned
            say(next_step(plan, ending, _same_again(study, options, overrides, total)))
    return ending.exit_code


def _typed(storage: str | None) -> str | None:
    """Return the storage root where it was typed; one that the environment names is there again."""
    source = click.get_current_context().get_parameter_source("storage")
    return storage if source is ParameterSource.COMMANDLINE else None


def _same_again(study: str, options: Mapping[str, str | None], overrides: Sequence[str], trials: int | None) -> str:
    """Return the arguments of the launch that resumes this one."""
    given = [(option, value) for option, value in options.items() if value]
    given += [("--set", override) for override in overrides]
    given += [("--trials", str(trials))] if trials is not None else []
    return shlex.join([study, *(word for pair in given for word in pair)])


def run(plan: Plan, wait: int, as_json: bool) -> tuple[Study | None, Ending]:
    """Launch a plan with its progress shown; return the study, None where it was stopped before there was one."""
    from search.cli import jobs, progress
    from search.cluster.carriers.base import Remote
    from search.launch import carry
    from search.launch import run as launching

    for line in (*plan.notes, *plan.effects, plan.cluster.opening()):
        say(line)
    study = None
    with prints_on_stderr(as_json), progress.view(plain=as_json or not plan.cluster.live_view) as view:
        try:
            if isinstance(plan.cluster, Remote):
                study = carry.launch(plan, view=view, say=say, ask=jobs.asks(view))
            else:
                study = launching.launch(plan, view=view, say=say, wait=wait, owns_process=True)
            ending = study.ending
        except launching.NotStarted as early:
            ending = early.ending
    assert ending is not None
    return study, ending


def next_step(plan: Plan, ending: Ending, words: str) -> str:
    """Return what to type after a launch; `words` are those of the command that resumes it."""
    from search.store import catalogue

    named = catalogue.arguments(plan.storage)
    commands = {
        ExitCode.DONE: f"robustsearch plot {named} (or `export` for tables, `model` for a network)",
        ExitCode.NO_FEASIBLE_POINT: f"robustsearch front {named}",
        ExitCode.TRIALS_FAILED: f"robustsearch status {named}",
    }
    return f"next: {commands.get(ending.exit_code, f'robustsearch launch {words}')}"


@click.command(cls=Command, epilog=examples("stop quickstart", "stop quickstart --now"))
@name_argument
@click.option("--now", is_flag=True, help="End the job on its cluster at once, even if trials have not saved.")
@storage_options
def stop(name: str, now: bool, storage: str | None, as_json: bool) -> None:
    """End a running launch; launching the study again resumes it.

    Running trials save their progress first. A job that still waits in the queue of a cluster is
    removed from it.
    """
    from search.launch import jobs
    from trainables.store.storage import Storage

    study = jobs.study_storage(Storage(storage or DEFAULT_STORAGE), name)
    facts = jobs.stop(study, name, now=now)
    answer(as_json, facts, lambda: say(facts["message"]))


@click.command(cls=Command, epilog=examples("validate my-study.yaml clusters/gpu.yaml"))
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--no-networks", is_flag=True, help="Do not build the networks of a study, which takes some seconds.")
@json_option
def validate(files: tuple[str, ...], no_networks: bool, as_json: bool) -> int:
    """Check study and cluster files.

    No data set, storage or cluster is opened; `robustsearch launch --dry-run` checks those too.
    """
    from search.launch.validate import check_file

    with prints_on_stderr(as_json):
        found = [check_file(file, networks=not no_networks) for file in files]
    wrong = [result for result in found if result.error is not None]
    for result in found:
        if result.error is not None:
            say(f"error: {result.error}")
        elif not as_json:
            print(f"{result.file}: ok, {result.summary}", *(f"  {line}" for line in result.networks), sep="\n")
    code = ExitCode.BAD_INPUT if wrong else ExitCode.DONE
    if as_json:
        reason = "\n".join(str(result.error) for result in wrong)
        emit({"files": [result.plain() for result in found], **failed(reason, code)})
    return code


@click.command(cls=Command, epilog=examples("init my-project"))
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@json_option
def init(directory: Path, as_json: bool) -> None:
    """Write a commented study and cluster files to edit.

    Existing files are never overwritten.
    """
    from search.launch import init as scaffold

    written = scaffold.write(directory)
    if as_json:
        emit({"written": [str(path) for path in written]})
    else:
        print(*written, sep="\n")
        say(f"next: edit {written[0]}, then run `{shlex.join(['robustsearch', 'launch', str(written[0])])}`")
