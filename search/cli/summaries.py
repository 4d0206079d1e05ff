"""Studies in a terminal: their states, how far one is, and how a launch ended."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from search.cli.console import Out, print_facts, print_table, table
from search.cli.fronts import POINT_HEADINGS, measured, print_answer, remark_cells, show_front
from search.cli.progress import ascii_only, running_cells
from search.files.messages import counted, emit, failed, printable, say
from search.launch.view import duration
from search.results import progress
from search.results.status import status
from search.store import catalogue

if TYPE_CHECKING:
    from search.results.progress import Snapshot
    from search.results.status import Status
    from search.results.study import Ending, Study, Summary
    from search.results.table import PointRow
    from search.store.live import RunningTrial


def show_ending(name: str, study: Study | None, ending: Ending, as_json: bool) -> None:
    """Print the front, then how the launch ended; interrupted early, a launch leaves no study."""
    if as_json:
        ended = failed(ending.message, ending.exit_code)
        state = status(study).plain() if study else None
        front = study.table("front").to_pylist() if study else []
        emit({"study": name, "message": ending.message, **ended, "status": state, "front": front})
    elif study:
        show_front(study)
        sys.stdout.flush()
    say(ending.message)


_STUDY_HEADINGS = ("study", "trials", "failed", "points", "front", "hypervolume", "")


def show_studies(summaries: Sequence[Summary], broken: Mapping[str, str], storage: str) -> None:
    """Print the studies of a storage, a line each, and after them those that cannot be opened."""
    console = Out(sys.stdout)
    if not summaries and not broken:
        console.print(f"no study in {storage}; `robustsearch launch` starts one")
        return
    rows = [
        (
            summary.study,
            f"{summary.complete}/{summary.planned}",
            str(summary.failed),
            str(summary.points),
            str(summary.front),
            f"{summary.hypervolume:.4f}",
            _remark(summary),
        )
        for summary in summaries
    ]
    if rows:
        print_table(console, table(console, _STUDY_HEADINGS, rows, right=range(1, 6)))
    for name, reason in broken.items():
        console.print(Text(printable(f"{name}: {reason}")))


def _remark(summary: Summary) -> str:
    parts = [f"{summary.damaged} damaged"] if summary.damaged else []
    parts += [f"{summary.waiting} waiting"] if summary.waiting else []
    return ", ".join(parts + ([f"{summary.running} running"] if summary.driver else []))


def show_job(name: str, job: Mapping[str, Any]) -> None:
    """Print the state of a job whose launch has not begun a study yet."""
    print_facts(Out(sys.stdout), {"study": name, "job": job["text"]})


def show_status(state: Status, job: Mapping[str, Any] | None = None) -> None:
    """Print a study's state, and that of the job which runs its launch."""
    console = Out(sys.stdout)
    now = state.progress
    assert now is not None
    print_facts(console, _status_facts(state, now, job))
    if now.trials:
        console.print()
        _running(console, now.trials)
    if state.best:
        console.print()
        _best(console, state.best)
    if state.answer is not None:
        console.print()
        print_answer(console, state.answer)
    if state.failures:
        console.print()
        rows = [(failed.kind, str(failed.trials), _first_line(failed.message)) for failed in state.failures]
        print_table(console, table(console, ("failed", "trials", "for example"), rows, right=(1,)))
    damaged = [(each.path, each.reason) for each in state.damaged]
    damaged += [(each.path, each.reason) for each in state.damaged_confirmations]
    if damaged:
        console.print()
        print_table(console, table(console, ("damaged record", "reason"), damaged))


def _status_facts(state: Status, now: Snapshot, job: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the lines above the tables by their names; those that say nothing are left out."""
    told = progress.lines(now)
    named = catalogue.arguments(state.storage)
    share = 100 * state.epochs_shared / max(1, state.epochs_shared + state.epochs_trained)
    facts = {
        "study": state.summary.study,
        "in": state.storage,
        "driver": progress.driver_text(now),
        "job": job["text"] if job else "",
        "trials": told["trials"],
        "networks": "; ".join(map(str, state.networks)),
        "points": told["points"],
        "flags": "; ".join(map(str, state.flags)),
        "hypervolume": told["hypervolume"],
        "confirmed": f"{counted(state.confirmed, 'point')}, see `robustsearch front {named} --confirmed`"
        if state.confirmed
        else "",
        "rate": told.get("rate", ""),
        "this launch": told.get("time", ""),
        "epochs": f"{state.epochs_trained} trained, {state.epochs_shared} ({share:.0f} %) from stored stages",
        "time": f"{duration(state.summary.seconds)} of trials' work",
        "first trial": _moment(state.first_issued or ""),
        "last result": _moment(state.last_finished or ""),
    }
    return {name: text for name, text in facts.items() if text}


def _best(console: Console, best: Mapping[str, PointRow]) -> None:
    remarks = remark_cells(list(best.values()))
    headings = ("best points", *POINT_HEADINGS[:-1], *(("flags",) if any(remarks) else ()))
    rows = [(name, *measured(row), *remark) for (name, row), remark in zip(best.items(), remarks, strict=True)]
    print_table(console, table(console, headings, rows, right=(2, 3, 4)))


def show_progress(now: Snapshot) -> None:
    """Print how far a study is, as it is seen while a launch runs."""
    from search.results.text_plot import front_plot

    console = Out(sys.stdout)
    print_facts(console, {"study": now.study, "driver": progress.driver_text(now), **progress.lines(now)})
    if now.trials:
        console.print()
        _running(console, now.trials)
    width, plain = min(console.width, 80), ascii_only(str(getattr(sys.stdout, "encoding", "")))
    if drawn := front_plot(now.front_points, now.objectives, width=width - 1, height=16, ascii=plain):
        console.print()
        print(*drawn, sep="\n", file=console.file)


def _running(console: Console, trials: Sequence[RunningTrial]) -> None:
    rows = [running_cells(trial) for trial in trials]
    print_table(console, table(console, tuple(rows[0]), [tuple(row.values()) for row in rows], right=(2, 3, 4, 5)))


def _moment(iso: str) -> str:
    return iso.replace("T", " ").replace("+00:00", " UTC")


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")[:300]
