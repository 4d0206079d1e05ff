"""Commands that read what a study found: status, front, export, plot, model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from search.cli.references import REFERENCE_OPTION, matched
from search.cli.root import Command, answer, examples, name_argument, opened, storage_options
from search.files.messages import emit, failed, say
from search.store.catalogue import DEFAULT_STORAGE
from trainables.core.errors import ExitCode, SpecError


@click.command(cls=Command, epilog=examples("status", "status quickstart", "status quickstart --json"))
@click.argument("name", required=False)
@storage_options
def status(name: str | None, storage: str | None, as_json: bool) -> None:
    """Show the progress and the best points of a study, or list all studies of the storage.

    Works while a launch runs, from any machine that sees the storage.
    """
    if name is None:
        _list(storage, as_json)
        return
    from search.cli.summaries import show_job, show_status
    from search.launch import jobs
    from search.results.status import status as state_of
    from search.store.records import Records
    from trainables.store.storage import Storage

    own = jobs.study_storage(Storage(storage or DEFAULT_STORAGE), name)
    job = jobs.described(own)
    if job is not None and not Records.exist(own):
        answer(as_json, {"study": name, "job": job}, lambda: show_job(name, job))
        return
    state = state_of(opened(storage, name, complete=False))
    answer(as_json, {**state.plain(), "job": job}, lambda: show_status(state, job))


def _list(storage: str | None, as_json: bool) -> None:
    from search.cli.summaries import show_studies
    from search.results.study import summaries
    from trainables.store.storage import Storage

    root = Storage(storage or DEFAULT_STORAGE)
    found, broken = summaries(root)
    facts = {"storage": root.location, "studies": [asdict(summary) for summary in found], "damaged": broken}
    answer(as_json, facts, lambda: show_studies(found, broken, root.location))


@click.command(cls=Command, epilog=examples("front quickstart", "front quickstart --confirmed"))
@name_argument
@click.option("--confirmed", is_flag=True, help="Print what `robustsearch confirm` has measured on the test split.")
@REFERENCE_OPTION
@storage_options
def front(name: str, confirmed: bool, reference: str | None, storage: str | None, as_json: bool) -> int:
    """Print the Pareto front.

    If no point is feasible, the points nearest to the constraints are listed, and the exit code is 3.
    """
    from search.cli.fronts import show_confirmed, show_front, show_reference
    from search.results import confirmed as confirmations
    from search.results.status import front_of

    study = opened(storage, name)
    beside = matched(study, reference)
    if confirmed:
        any_left, said = bool(study.confirmed_front()), "no confirmed point"
        found = {"study": study.name, **confirmations.front_of(study)}
    else:
        found, said = front_of(study), "no feasible point"
        any_left = bool(found["front"])
    code = ExitCode.DONE if any_left else ExitCode.NO_FEASIBLE_POINT

    def show() -> None:
        (show_confirmed if confirmed else show_front)(study)
        if beside is not None and beside.rows:
            show_reference(study, beside)

    answer(as_json, {**found, **({"reference": beside.plain()} if beside else {}), **failed(said, code)}, show)
    return code


@click.command(
    cls=Command,
    epilog=examples(
        "export quickstart --what front --output front.tex",
        "export quickstart --output points.parquet",
        "export quickstart --format mlflow --output runs-of-mlflow",
    ),
)
@name_argument
@click.option(
    "--format",
    "format_",
    metavar="FORMAT",
    help="csv, parquet, json, markdown, latex or html [default: by the name of the output, else csv]; or mlflow, "
    "tensorboard or wandb, which write all trials to a directory.",
)
@click.option(
    "--what",
    type=click.Choice(["front", "points", "configurations", "trials", "confirmed", "paper", "claims"]),
    default="points",
    show_default=True,
    help="The rows of the table.",
)
@click.option("--output", type=click.Path(path_type=Path), help="The file or directory to write [default: stdout].")
@REFERENCE_OPTION
@storage_options
@click.pass_context
def export(
    context: click.Context,
    name: str,
    format_: str | None,
    what: Any,
    output: Path | None,
    reference: str | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Write a table of the front, the points, the trials or the confirmed points.

    `configurations` lists every point once, with means over replicates. `paper` and `claims` need a study that
    `robustsearch reproduce` made.
    """
    from search.results import exporters
    from search.results.exporters.output import OutputError

    kind = exporters.format_of(output, format_)
    if kind in exporters.TRACKERS:
        if context.get_parameter_source("what") is click.core.ParameterSource.COMMANDLINE:
            raise OutputError(f"{kind} takes all trials, with their points; leave --what out")
        what = "trials"
    if reference is not None and what in ("trials", "paper", "claims"):
        raise SpecError(f"--reference is for points; {what} has none: take --what front or points")
    study = opened(storage, name)
    beside = matched(study, reference)
    if as_json and output is None:
        emit({"format": kind, "what": what, "content": exporters.text(study, what, kind, beside)})
    elif (written := exporters.export(study, what, kind, output, beside)) is not None:
        facts = {"output": str(written), "format": kind, "what": what}
        answer(as_json, facts, lambda: say(f"wrote {written}"))


@click.command(cls=Command, epilog=examples("plot quickstart --output front.svg"))
@name_argument
@click.option("--output", type=click.Path(path_type=Path), help="A .png, .pdf or .svg file [default: NAME-front.pdf].")
@REFERENCE_OPTION
@storage_options
def plot(name: str, output: Path | None, reference: str | None, storage: str | None, as_json: bool) -> None:
    """Draw the front with its confidence intervals."""
    from search.results import plot as drawing

    study = opened(storage, name)
    written = drawing.plot(study, output or Path(f"{name}-front.pdf"), matched(study, reference))
    answer(as_json, {"output": str(written)}, lambda: say(f"wrote {written}"))


@click.command(cls=Command, epilog=examples("model quickstart t17.2 --output my-net"))
@name_argument
@click.argument("point")
@click.option("--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The directory to write.")
@click.option("--shrink", is_flag=True, help="Remove filters that were pruned completely, which makes layers smaller.")
@click.option("--onnx", is_flag=True, help="Also write the network in ONNX, checked to give the same logits.")
@click.option(
    "--program", is_flag=True, help="Write the program of a plug-in's model too, which runs the plug-in's code."
)
@storage_options
def model(
    name: str,
    point: str,
    output: Path,
    shrink: bool,
    onnx: bool,
    program: bool,
    storage: str | None,
    as_json: bool,
) -> None:
    """Write the network of a point: weights, model card, PyTorch program, and the verdicts on its examples."""
    from search.results import model_export

    study = opened(storage, name)
    written = model_export.save(study, point, output, shrink=shrink, onnx=onnx, run_plugins=program)
    for note in written.notes:
        say(note)
    facts: dict[str, Any] = {"output": str(written.path)}
    answer(
        as_json,
        {**facts, "notes": list(written.notes)} if written.notes else facts,
        lambda: say(f"wrote {written.path}"),
    )
