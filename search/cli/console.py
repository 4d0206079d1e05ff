"""What the commands print: tables in a terminal, aligned plain text elsewhere, and never a control character."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.cli.progress import running_cells
from search.files.messages import emit, failed, printable, say
from search.launch.view import duration
from search.objectives.values import COUNTS
from search.results import progress
from search.results.exporters.base import (
    REFERENCE,
    caption,
    front_change,
    number,
    over_seeds,
    percent_sparsity,
    rank,
    readable,
)
from search.results.status import NEAREST, said, status

if TYPE_CHECKING:
    from search.files.findings import Finding
    from search.results.exporters.base import Readable
    from search.results.progress import Snapshot
    from search.results.references.match import Match
    from search.results.status import Status
    from search.results.study import Answer, Ending, Study, Summary
    from search.results.table import PointRow
    from search.space.parameters import Parameter
    from search.store.live import RunningTrial

_UNLIMITED = 100_000
_LONG_NAME = 28


class _Out(Console):
    """A console on a stream: styled and wrapped in a terminal, plain and unwrapped elsewhere."""

    def __init__(self, stream: IO[str]) -> None:
        # Without a colour system rich writes no escape at all; NO_COLOR alone would leave it bold and dim.
        plain = bool(os.environ.get("NO_COLOR"))
        system: Literal["auto"] | None = None if plain else "auto"
        super().__init__(file=stream, highlight=False, markup=False, emoji=False, color_system=system)
        if not self.is_terminal:
            self.width = _UNLIMITED

    def on_broken_pipe(self) -> None:
        """Leave the end of a pipe to the caller; rich would exit with 1."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _table(
    console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()
) -> Table:
    """Build a table. The first column and those in `right`, which hold numbers, are not wrapped where that can be."""
    style = box.SIMPLE_HEAD if console.is_terminal else None
    table = Table(box=style, show_edge=False, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    cells = [[printable(cell) for cell in row] for row in rows]
    names_fit = all(len(row[0]) <= _LONG_NAME for row in cells)
    for index, heading in enumerate(headings):
        numeric = index in right
        whole = numeric or (index == 0 and names_fit)
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=whole, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def _print(console: Console, table: Table) -> None:
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    # Plain text ends where its content does.
    print(*(line.rstrip() for line in captured.get().splitlines()), sep="\n", file=console.file)


def _facts(console: Console, facts: Mapping[str, str]) -> None:
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, fact in facts.items():
        grid.add_row(Text(name, style="dim"), Text(printable(fact)))
    _print(console, grid)


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """Write a fraction in percent, with its interval where it has one."""
    text = f"{100 * value:.1f}"
    return text if low is None or high is None else f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def settings(params: Mapping[str, Any], space: Mapping[str, Parameter]) -> str:
    """Write parameters shortly.

    `recipe.` is what nearly all of them begin with, and a kind is what it is a kind of. What has but one value
    in the space is left out.
    """
    shown = [path for path in params if path not in space or len(space[path].extremes()) > 1]
    names = {path: _short(path) for path in shown}
    return " ".join(f"{names[path]}={number(params[path])}" for path in shown)


def _short(path: str) -> str:
    return "recipe" if path == "recipe.kind" else path.removeprefix("recipe.").removesuffix(".kind")


_POINT_HEADINGS = ("point", "sparsity %", "robust %", "clean %", "parameters")


def _points(console: Console, study: Study, rows: Iterable[PointRow]) -> Table:
    space = study.spec.space
    counts = [measure for measure in study.spec.objectives if measure in COUNTS]
    rows = list(rows)
    remarks = _remarks(rows)
    cells = [
        (*_measured(row), *(number(getattr(row, count)) for count in counts), *remark, settings(row.own_params, space))
        for row, remark in zip(rows, remarks, strict=True)
    ]
    flags = ("flags",) if any(remarks) else ()
    headings = (*_POINT_HEADINGS[:-1], *counts, *flags, _POINT_HEADINGS[-1])
    return _table(console, headings, cells, right=range(1, 4 + len(counts)))


def _remarks(rows: Sequence[PointRow]) -> list[tuple[str, ...]]:
    """Return the cell with status and flags of each row; no row has one where none has a flag."""
    return [(row.remark,) if any(other.remark for other in rows) else () for row in rows]


def _measured(row: PointRow) -> tuple[str, ...]:
    return (
        row.point,
        percent_sparsity(row.sparsity),
        percent(row.robust_accuracy, row.robust_accuracy_low, row.robust_accuracy_high),
        percent(row.clean_accuracy),
    )


def show_front(study: Study) -> None:
    """Print the front as a table, and below it how it was measured; an empty one as the points that come nearest."""
    console = _Out(sys.stdout)
    front = study.front()
    if front:
        _print(console, _points(console, study, front))
        console.print()
        if (knee := study.knee()) is not None:
            console.print(Text(f"knee: {knee.point}"))
        _answer(console, study.answer())
        rows = study.table("front").to_pylist()
        console.print(Text(printable(caption(rows, what="front", study=study.name)), style="dim"))
        return
    _answer(console, study.answer())
    nearest = study.infeasible(NEAREST)
    if not nearest:
        console.print(f"{study.name}: no valid point has been measured yet.")
        return
    wanted = ", ".join(f"{measure} {bound}" for measure, bound in study.spec.constraints.items())
    console.print(f"{study.name}: no point satisfies {wanted}. Those that violate it least:")
    _print(console, _points(console, study, nearest))


def show_confirmed(study: Study, examples: int | str | None = None) -> None:
    """Print the confirmed points as a table: what fell from estimate to result, and what left the front."""
    console = _Out(sys.stdout)
    found = study.confirmed(examples)
    if not found:
        console.print(
            f"{study.name}: nothing is confirmed; `robustsearch confirm {study.name}` measures it on the test split"
        )
        return
    rows = study.table("confirmed", examples=examples).to_pylist()
    seeds = any(row["seeds"] > 1 for row in rows)
    headings = [
        "point",
        "sparsity %",
        "robust %",
        *(["over seeds %"] if seeds else []),
        "clean %",
        "estimate %",
        "fell",
    ]
    headings += ["rank", "front", "p", "parameters"]
    cells = [
        _confirmed(row, seeds, settings(own.own_params, study.spec.space)) for row, own in zip(rows, found, strict=True)
    ]
    _print(console, _table(console, headings, cells, right=range(1, headings.index("front"))))
    console.print()
    left = [row["point"] for row in rows if front_change(row) == "left"]
    if left:
        console.print(Text(f"left the front: {', '.join(left)}"))
    console.print(Text(printable(caption(rows, what="confirmed", study=study.name)), style="dim"))


def _confirmed(row: dict[str, Any], seeds: bool, params: str) -> tuple[str, ...]:
    p = row["p_nondominated"]
    return (
        row["point"],
        percent_sparsity(row["sparsity"]),
        percent(row["robust_accuracy"], row["robust_accuracy_low"], row["robust_accuracy_high"]),
        *([over_seeds(row)] if seeds else []),
        percent(row["clean_accuracy"]),
        percent(row["estimate"]),
        f"{100 * row['drop']:.1f}",
        rank(row),
        front_change(row),
        "" if p is None else f"{p:.2f}",
        params,
    )


def show_reference(study: Study, found: Match) -> None:
    """Print the rows of a reference as a table, and below it their source and what must be said beside them."""
    from search.results.references import tables

    console = _Out(sys.stdout)
    shown = readable(tables.table(found, study.table("front")), what=REFERENCE, study=study.name)
    console.print()
    right = [index for index, numeric in enumerate(shown.numeric) if numeric]
    _print(console, _table(console, shown.headings, shown.rows, right=right))
    console.print()
    console.print(Text(printable(shown.caption), style="dim"))


def _answer(console: Console, answer: Answer | None) -> None:
    if answer is not None:
        console.print(Text(printable(said(answer))))


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
    console = _Out(sys.stdout)
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
        _print(console, _table(console, _STUDY_HEADINGS, rows, right=range(1, 6)))
    for name, reason in broken.items():
        console.print(Text(printable(f"{name}: {reason}")))


def _remark(summary: Summary) -> str:
    parts = [f"{summary.damaged} damaged"] if summary.damaged else []
    parts += [f"{summary.waiting} waiting"] if summary.waiting else []
    return ", ".join(parts + ([f"{summary.running} running"] if summary.driver else []))


def show_status(state: Status) -> None:
    """Print a study's state."""
    console = _Out(sys.stdout)
    summary, now = state.summary, state.progress
    assert now is not None
    told = progress.lines(now)
    epochs = state.epochs_shared + state.epochs_trained
    share = f"{100 * state.epochs_shared / max(1, epochs):.0f} %"
    _facts(
        console,
        {
            "study": summary.study,
            "in": state.storage,
            "driver": progress.driver_text(now),
            "trials": told["trials"],
            **({"networks": "; ".join(map(str, state.networks))} if state.networks else {}),
            "points": told["points"],
            **({"flags": "; ".join(map(str, state.flags))} if state.flags else {}),
            "hypervolume": told["hypervolume"],
            **(
                {"confirmed": f"{state.confirmed} points, see `robustsearch front --confirmed`"}
                if state.confirmed
                else {}
            ),
            **{shown: told[name] for name, shown in (("rate", "rate"), ("time", "this launch")) if name in told},
            "epochs": f"{state.epochs_trained} trained, {state.epochs_shared} ({share}) from stored stages",
            "time": f"{duration(summary.seconds)} of trials' work",
            **({"first trial": _moment(state.first_issued)} if state.first_issued else {}),
            **({"last result": _moment(state.last_finished)} if state.last_finished else {}),
        },
    )
    if now.trials:
        console.print()
        _running(console, now.trials)
    if state.best:
        console.print()
        headings = ("best points", *_POINT_HEADINGS[:-1])
        remarks = _remarks(list(state.best.values()))
        headings = (*headings, *(("flags",) if any(remarks) else ()))
        best = zip(state.best.items(), remarks, strict=True)
        rows = [(name, *_measured(row), *remark) for (name, row), remark in best]
        _print(console, _table(console, headings, rows, right=(2, 3, 4)))
    if state.answer is not None:
        console.print()
        _answer(console, state.answer)
    if state.failures:
        console.print()
        rows = [(failed.kind, str(failed.trials), _first_line(failed.message)) for failed in state.failures]
        _print(console, _table(console, ("failed", "trials", "for example"), rows, right=(1,)))
    if state.damaged or state.damaged_confirmations:
        console.print()
        rows = [(damaged.path, damaged.reason) for damaged in state.damaged]
        rows += [(damaged.path, damaged.reason) for damaged in state.damaged_confirmations]
        _print(console, _table(console, ("damaged record", "reason"), rows))


def show_progress(now: Snapshot) -> None:
    """Print how far a study is, as it is seen while a launch runs."""
    from search.results.text_plot import front_plot

    console = _Out(sys.stdout)
    _facts(console, {"study": now.study, "driver": progress.driver_text(now), **progress.lines(now)})
    if now.trials:
        console.print()
        _running(console, now.trials)
    width, encoding = min(console.width, 80), str(getattr(sys.stdout, "encoding", ""))
    plain = not encoding.lower().startswith("utf") or os.environ.get("TERM") in ("dumb", "linux")
    if drawn := front_plot(now.front_points, now.objectives, width=width - 1, height=16, ascii=plain):
        console.print()
        print(*drawn, sep="\n", file=console.file)


def _running(console: Console, trials: Sequence[RunningTrial]) -> None:
    rows = [running_cells(trial) for trial in trials]
    _print(console, _table(console, tuple(rows[0]), [tuple(row.values()) for row in rows], right=(2, 3, 4, 5)))


def _moment(iso: str) -> str:
    return iso.replace("T", " ").replace("+00:00", " UTC")


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")[:300]


def show_facts(facts: Mapping[str, str]) -> None:
    """Print names and what they stand for, aligned."""
    _facts(_Out(sys.stdout), facts)


def show_tables(tables: Iterable[Readable]) -> None:
    """Print tables, each with its caption below."""
    console = _Out(sys.stdout)
    for at, shown in enumerate(tables):
        if at:
            console.print()
        right = [column for column, numeric in enumerate(shown.numeric) if numeric]
        _print(console, _table(console, shown.headings, shown.rows, right=right))
        console.print(Text(printable(shown.caption), style="dim"))


_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show_findings(findings: Iterable[Finding]) -> None:
    """Print what doctor found, a line each."""
    console = _Out(sys.stdout)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        level = Text(finding.level, style=_STYLES[finding.level])
        grid.add_row(level, Text(finding.subject), Text(printable(finding.message)))
    _print(console, grid)
