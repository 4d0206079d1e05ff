"""What the scripts of the papers share: options, running trials in process, arms of points, and the table of claims."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

# A script's folder comes first on the path; the project's comes before what is installed.
sys.path.insert(0, str(Path(__file__).parents[2]))

from search.results.bootstrap import unpacked_passes
from search.results.verdicts import Arm, Bound, Interval, Judgement, Quantity, Statement, Untested, collapsed
from trainables.core.keys import canonical_json
from trainables.core.spec import plain
from trainables.data import tensors
from trainables.method.phases import EpochPhase, Measure
from trainables.recipes.trial import TrialSpec, keyed_phases
from trainables.store.records import Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.run import Run

CHECKPOINT_SECONDS = 20.0
Points = tuple[Point, ...]
Made = TypeVar("Made")


def arguments(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every script has; `name` is the paper's, of the folder with the stages."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, help="folder with a folder per data set; without it, ROBUSTSEARCH_DATA")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--tiny", action="store_true", help="a dry run on digits, in seconds; its numbers mean nothing")
    parser.add_argument("--dry-run", action="store_true", help="print what would be trained, and train nothing")
    parser.add_argument("--device", default="cpu", help="where to train, such as cuda")
    parser.add_argument("--folder", type=Path, default=Path("build/papers") / name, help="of the stages and points")
    parser.add_argument("--output", type=Path, help="write the tables there too")
    return parser


def sized(description: str | None, name: str, full: Any, tiny: Any, given: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options of a script that has two sizes: `options.size` is the one that is wanted."""
    options = arguments(description, name).parse_args(given)
    options.size = tiny if options.tiny else full
    options.folder /= "tiny" if options.tiny else "full"
    return options


def by_seed(options: argparse.Namespace, experiment: Callable[[Any, dict[str, Any], int], Made]) -> list[Made]:
    """Return an experiment for each seed, made of its size, its data and the seed."""
    size = options.size
    described = data(size.data, options.data, limit=size.limit, validation=max(size.examples, 100))
    return [experiment(size, described, seed) for seed in range(options.seeds)]


def data(kind: str, root: Path | None, **fields: Any) -> dict[str, Any]:
    """Describe a data set whose files are below `root`, or where the data set looks itself."""
    place = root / kind if root is not None else None
    return {"kind": kind, **({"root": str(place)} if place is not None and place.is_dir() else {}), **fields}


@dataclass(frozen=True, eq=False)
class Bench:
    """Where trials are run; what it has run it knows."""

    folder: Path
    device: str = "cpu"
    _known: dict[str, Points] = field(default_factory=dict)

    def points(self, trial: TrialSpec) -> Points:
        """Run a trial in this process, unless it was run before, and return what it measured.

        Stages lie below the folder: what is stored there is not computed again, whichever trial stored it, and an
        interrupted run resumes. One thread is used, so that several scripts can run side by side.
        """
        name = canonical_json(plain(trial))
        if name not in self._known:
            self._known[name] = self._run(trial)
        return self._known[name]

    def _run(self, trial: TrialSpec) -> Points:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        where = torch.device(self.device)
        run = Run(trial, tensors.load(trial.data, where), self.stages, 0, self.folder.name, where, CHECKPOINT_SECONDS)
        found = []
        for now in run.progress():
            if now.point is not None:
                found.append(now.point)
            progress(now.epoch.epoch if now.epoch else None, now.phases_done, now.phases)
        return tuple(found)

    @property
    def stages(self) -> Stages:
        return Stages(Storage(str(self.folder)))

    def seconds(self, trial: TrialSpec) -> float:
        """Return the seconds that the trial's stages took, shared ones as well."""
        chain = keyed_phases(trial, tensors.load(trial.data).fingerprint)
        keys = [step.key for step in chain if not isinstance(step.phase, Measure)]
        return sum(stage.seconds for key in keys if (stage := self.stages.find(key)) is not None)


def progress(epoch: int | None, done: int, phases: int) -> None:
    """Print on a terminal how far the trial is."""
    if sys.stderr.isatty():
        text = f"phase {done} of {phases}" + (f", epoch {epoch}" if epoch is not None else "")
        print(f"\r\033[K{text}", end="\r" if done == phases else "", file=sys.stderr, flush=True)


def run(
    options: argparse.Namespace,
    trials: Callable[[argparse.Namespace], Iterable[TrialSpec]],
    report: Callable[[argparse.Namespace, Bench], Iterable[str]],
) -> None:
    """Run all trials and print the report on them, or with `--dry-run` only what would be run."""
    if options.dry_run:
        tell(plan(trials(options)), options.output)
        return
    bench = Bench(options.folder, options.device)
    for trial in trials(options):
        bench.points(trial)
    tell("\n".join(report(options, bench)), options.output)


def plan(trials: Iterable[TrialSpec]) -> str:
    """Load the data of trials, and write how much they train: a phase that several share once."""
    epochs: dict[str, int] = {}
    number = 0
    for trial in trials:
        number += 1
        for step in keyed_phases(trial, tensors.load(trial.data).fingerprint):
            epochs[step.key] = step.phase.length if isinstance(step.phase, EpochPhase) else 0
    return f"{number} trials, {sum(epochs.values())} epochs of training"


def chance(trial: TrialSpec) -> float:
    """Return the accuracy of predicting one class for all images that a trial measures."""
    labels = tensors.load(trial.data).validation.y[: trial.protocol.examples]
    return float(labels.bincount().max()) / len(labels)


def arm(points: Sequence[Point], name: str, chance: float, *, examples: int | None = None) -> Arm:
    """Return what the networks of one arm measure, one per seed.

    `name` is `robust_accuracy`, `clean_accuracy` or a metric's; of a metric that is an accuracy, `examples` is the
    number of images, or it ends in `_accuracy` and has those of the point.
    """
    clean = [point.clean_accuracy for point in points]
    values = [number(point, name) for point in points]
    if examples is None and name.endswith("_accuracy"):
        examples = points[0].examples
    if examples is None:
        return Arm.of(values, collapsed=any(collapsed(value, chance) for value in clean))
    bits = [point.verdicts if name == "robust_accuracy" else point.outcomes.get(name, "") for point in points]
    outcomes = np.stack([unpacked_passes(each, examples) for each in bits]) if all(bits) else None
    return Arm.accuracy(values, examples, outcomes=outcomes, clean=clean, chance=chance)


def number(point: Point, name: str) -> float:
    """Return what a point has under a name: an accuracy, or a metric."""
    if name in ("clean_accuracy", "robust_accuracy", "sparsity"):
        return float(getattr(point, name))
    value = point.metrics[name]
    return float("nan") if value is None else float(value)


@dataclass(frozen=True)
class Claim:
    """A paper's claim and what was found: `ours` as text, and the statement that is judged."""

    id: str
    text: str
    paper: str
    ours: str = ""
    size: str = ""
    statement: Statement = field(default_factory=Untested)

    @classmethod
    def about(
        cls,
        id: str,
        text: str,
        paper: str,
        found: Interval,
        statement: Statement,
        *,
        scale: float = 100.0,
        digits: int = 1,
    ) -> Claim:
        """Return a claim about one interval."""
        return cls(id, text, paper, found.text(scale, digits), found.size(), statement)

    @classmethod
    def bounded(
        cls, id: str, text: str, paper: str, found: Quantity, *, scale: float = 100.0, digits: int = 1, **bounds: float
    ) -> Claim:
        """Return a claim that something lies within bounds."""
        return cls.about(id, text, paper, found.interval(), Bound(found, **bounds), scale=scale, digits=digits)

    @property
    def judged(self) -> Judgement:
        return self.statement.judged()


def table(claims: Iterable[Claim]) -> str:
    """Write claims as a Markdown table."""
    rows = [(claim.id, claim.text, claim.paper, claim.ours, claim.size, claim.judged.text()) for claim in claims]
    return markdown(("", "claim", "paper", "ours", "n", "verdict"), rows)


READING = (
    "Intervals of 95 % over seeds and images; n is seeds, or seeds x images. Where one of several levels is enough for "
    "a claim, each is judged with a correction for their number (Bonferroni). `at chance`: no network is told above "
    "the accuracy of predicting one class for all images; `a training collapsed`: one is near it on clean images."
)


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
