"""What the scripts of the papers share: running trials in process, intervals over seeds, and the table of claims."""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from scipy import stats

from trainables.data import tensors
from trainables.recipes.trial import TrialSpec
from trainables.store.records import Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.run import Run

Verdict = Literal["holds", "does not", "cannot tell", "not tested"]
CHECKPOINT_SECONDS = 20.0


def arguments(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every script has; `name` is the paper's, of the folder with the stages."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, help="folder with a folder per data set; without it, ROBUSTSEARCH_DATA")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--tiny", action="store_true", help="a dry run on digits, in seconds; its numbers mean nothing")
    parser.add_argument("--folder", type=Path, default=Path("build/papers") / name, help="of the stages and points")
    parser.add_argument("--output", type=Path, help="write the tables there too")
    return parser


def data(kind: str, root: Path | None, **fields: Any) -> dict[str, Any]:
    """Describe a data set whose files are below `root`, or where the data set looks itself."""
    place = root / kind if root is not None else None
    return {"kind": kind, **({"root": str(place)} if place is not None and place.is_dir() else {}), **fields}


def points(trial: TrialSpec, folder: Path, device: str | torch.device | None = None) -> tuple[Point, ...]:
    """Run a trial in this process and return what it measured.

    Stages lie below `folder`: what is stored there is not computed again, whichever trial stored it, and an
    interrupted run resumes. One thread is used, so that several scripts can run side by side.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    where = torch.device(device or "cpu")
    stages = Stages(Storage(str(folder)))
    run = Run(trial, tensors.load(trial.data, where), stages, 0, folder.name, where, CHECKPOINT_SECONDS)
    found = []
    for now in run.progress():
        if now.point is not None:
            found.append(now.point)
        progress(now.epoch.epoch if now.epoch else None, now.phases_done, now.phases)
    return tuple(found)


def progress(epoch: int | None, done: int, phases: int) -> None:
    """Print on a terminal how far the trial is."""
    if sys.stderr.isatty():
        text = f"phase {done} of {phases}" + (f", epoch {epoch}" if epoch is not None else "")
        print(f"\r\033[K{text}", end="\r" if done == phases else "", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with the ends of its interval; these are None of a single seed."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def text(self, scale: float = 1.0, digits: int = 1) -> str:
        """Write the interval as `mean [low, high]`, `scale` times as large."""

        def number(value: float) -> str:
            # Adding 0 to what is rounded makes no minus of it.
            return f"{round(value * scale, digits) + 0.0:.{digits}f}"

        if not self.n:
            return "unknown"
        if self.low is None or self.high is None:
            return f"{number(self.mean)} (one seed)"
        return f"{number(self.mean)} [{number(self.low)}, {number(self.high)}]"


def interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """Return the mean of independent values with Student's t interval; what is not a number is left out.

    Raises:
        ValueError: there is no value.
    """
    given = list(values)
    if not given:
        raise ValueError("no value to take the mean of")
    found = [value for value in given if math.isfinite(value)]
    if not found:
        return Interval(math.nan, None, None, 0)
    mean = statistics.fmean(found)
    if len(found) == 1:
        return Interval(mean, None, None, 1)
    reach = float(stats.t.ppf((1 + confidence) / 2, len(found) - 1)) * statistics.stdev(found) / len(found) ** 0.5
    return Interval(mean, mean - reach, mean + reach, len(found))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the interval of the differences, seed by seed."""
    return interval([a - b for a, b in zip(ours, theirs, strict=True)])


def verdict(found: Interval, *, at_least: float | None = None, at_most: float | None = None) -> Verdict:
    """Return whether an interval lies within the bounds of a claim, outside of them, or neither."""
    if found.low is None or found.high is None:
        return "cannot tell"
    least = -float("inf") if at_least is None else at_least
    most = float("inf") if at_most is None else at_most
    if least <= found.low and found.high <= most:
        return "holds"
    return "does not" if found.high < least or most < found.low else "cannot tell"


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on a claim of several parts: it holds if all do, and does not if one does not."""
    found = set(verdicts)
    order: tuple[Verdict, ...] = ("does not", "not tested", "cannot tell", "holds")
    return next((verdict for verdict in order if verdict in found), "not tested")


@dataclass(frozen=True)
class Claim:
    """A paper's claim and what was found: `ours` as text, the ends of the interval that the verdict is about."""

    id: str
    text: str
    paper: str
    ours: str
    low: float | None
    high: float | None
    verdict: Verdict

    @classmethod
    def judged(
        cls,
        id: str,
        text: str,
        paper: str,
        found: Interval,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        scale: float = 1.0,
        digits: int = 1,
    ) -> Claim:
        """Judge an interval by the bounds of a claim."""
        judgement = verdict(found, at_least=at_least, at_most=at_most)
        return cls(id, text, paper, found.text(scale, digits), found.low, found.high, judgement)


def table(claims: Iterable[Claim]) -> str:
    """Write claims as a Markdown table."""
    rows = [(claim.id, claim.text, claim.paper, claim.ours, claim.verdict) for claim in claims]
    return markdown(("", "claim", "paper", "ours", "verdict"), rows)


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tell(text: str, output: Path | None) -> None:
    """Print a text, and write it to a file where one is wanted."""
    print(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n", encoding="utf-8")
