"""What a whole study costs on one GPU, computed: operations that are counted, over a rate that is assumed.

Every training of a grid's trials counts once, where they share it. For each kind of training, an epoch of four images
is run on the CPU with torch's counter of floating-point operations, attack, perturbation and gradients included, and so
are images held back. All else is multiplication: images, epochs, seeds. Operations of pruned weights count too, as no
GPU skips them. `--rate` is what a GPU sustains, in 10^12 operations a second: it is assumed, nothing here measures it,
and hours are in inverse proportion to it. AutoAttack is estimated: an image that it cannot break takes the passes of
an APGD-CE, nine APGD-T and nine FAB-T runs of 100 steps, and 5,000 queries; `--robust` is the share of such images. It
attacks the last network of each trial, or all of a paper's table. Measurements on validation images are left out.

    python benchmarks/gpu_hours.py cifar10-resnet18-front
    python benchmarks/gpu_hours.py cifar10-resnet18-front --rate 100
    python benchmarks/gpu_hours.py rakin2019/resnet20      # a paper's table at its published length

Small networks, such as those of MNIST, keep no GPU busy: their time is that of starting kernels, which is not in here.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from search.samplers.grid import Grid
from search.space.parameters import Params
from search.study import reproduction
from search.study.file import load
from search.study.spec import Reproduces, StudySpec
from trainables import models
from trainables.core.keys import canonical_json
from trainables.core.spec import plain
from trainables.data.tensors import Split, TrainingData
from trainables.engine.train import train
from trainables.method.phases import Train
from trainables.models import macs
from trainables.recipes.trial import KeyedPhase, TrialSpec, keyed_phases
from trainables.store.state import State

IMAGES = 4
AUTOATTACK = 100 * 2 + 9 * 100 * 2 + 9 * 100 * 2 + 5000
"""Forward passes, or what takes as long, for an image that nothing breaks: APGD-CE, APGD-T, FAB-T, Square."""
TEST_IMAGES = 10_000


def trials(spec: StudySpec) -> Iterator[TrialSpec]:
    """Yield the trials of a study's grid, for each of its seeds."""
    sampler = spec.sampler if isinstance(spec.sampler, Grid) else Grid()
    every: list[Params] = [*spec.enqueue, *sampler.every(spec.space)]
    for seed in spec.seeds or (spec.seed,):
        yield from (spec.trial(params).model_copy(update={"seed": seed}) for params in every)


def trainings(spec: StudySpec) -> dict[str, tuple[TrialSpec, Train]]:
    """Return every training of a study's grid once, by its key, with a trial that has it."""
    found: dict[str, tuple[TrialSpec, Train]] = {}
    for trial in trials(spec):
        steps: tuple[KeyedPhase, ...] = keyed_phases(trial, "")
        found |= {step.key: (trial, step.phase) for step in steps if isinstance(step.phase, Train)}
    return found


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of an epoch, for an image trained on and for one held back."""

    trained: float
    held_back: float


def count(trial: TrialSpec, phase: Train) -> Operations:
    """Count the operations of a training, in epochs of which all warm-ups are over."""
    training = phase.training.model_copy(
        update={
            "batch": IMAGES,
            "awp_warmup": 0.0,
            "eps_warmup": 0.0,
            "natural_epochs": 0,
            "precision": "fp32",
            "select": 0,
        }
    )
    settings = {"s2ap_warmup": 0.0} if "s2ap_warmup" in type(phase.weights).model_fields else {}
    short = phase.model_copy(
        update={"start": 0, "epochs": 3, "snapshots": (), "weights": phase.weights.model_copy(update=settings)}
    )
    alone = _epoch(trial, short.model_copy(update={"training": training}), IMAGES) / IMAGES
    if not phase.training.select:
        return Operations(alone, 0.0)
    held = training.model_copy(update={"select": IMAGES})
    both = _epoch(trial, short.model_copy(update={"training": held}), 2 * IMAGES)
    return Operations(alone, both / IMAGES - alone)


def _kind(phase: Train) -> str:
    """Return what the operations of a training depend on."""
    training = phase.training
    parts = [plain(training.attack), plain(training.loss), plain(training.select_attack) if training.select else None]
    return canonical_json([*parts, training.awp > 0, phase.weights.kind, getattr(phase.weights, "s2ap", 0.0) > 0])


def _epoch(trial: TrialSpec, phase: Train, images: int) -> float:
    """Return the operations of the second epoch of a training on so many images: the first one prepares."""
    data = _data(trial, images)
    model = _model(trial, data)
    with Counter() as counter:
        epochs = train(model, State.of(model), phase, data, key="count", device="cpu")
        next(epochs)
        before = counter.total
        next(epochs)
    return counter.total - before


class Counter(TorchDispatchMode):
    """Counts the floating-point operations of convolutions and products, as torch's own registry does."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def _data(trial: TrialSpec, images: int) -> TrainingData:
    shape, classes = type(trial.data).shape, type(trial.data).classes
    assert shape is not None
    assert classes is not None
    x = torch.randint(0, 256, (images, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(x, torch.arange(images) % classes, 255.0)
    half = (0.5,) * shape[0]
    return TrainingData(split, split, classes, shape, half, half, "", "")


def _model(trial: TrialSpec, data: TrainingData) -> torch.nn.Module:
    return models.build_for(data, trial.model, seed=0)


def report(spec: StudySpec, rate: float, robust: float) -> str:
    """Return the costs of a study as text."""
    found = trainings(spec)
    available = type(spec.data).training_images
    assert available is not None
    left = (spec.data.limit or available) - spec.data.validation
    counted: dict[str, Operations] = {}
    rows: dict[str, list[float]] = {}
    for trial, phase in found.values():
        kind = _kind(phase)
        if kind not in counted:
            counted[kind] = count(trial, phase)
        held = phase.training.select
        operations = phase.length * (counted[kind].trained * (left - held) + counted[kind].held_back * held)
        # What several recipes share is listed with the first.
        row = rows.setdefault(trial.recipe.kind, [0.0, 0.0])
        row[0] += phase.length
        row[1] += operations
    trial = next(trials(spec))
    forward = 2 * macs.dense(macs.count(_model(trial, _data(trial, 1)), type(trial.data).shape or (0, 0, 0)))
    networks = confirmed(spec)
    confirm = networks * TEST_IMAGES * robust * AUTOATTACK * forward
    lines = ["| | epochs | operations, 10^15 | hours |", "| --- | --- | --- | --- |"]

    def line(name: str, epochs: str, operations: float) -> str:
        return f"| {name} | {epochs} | {operations / 1e15:,.0f} | {operations / (rate * 1e12) / 3600:,.1f} |"

    lines += [line(kind, f"{epochs:,.0f}", operations) for kind, (epochs, operations) in rows.items()]
    total = sum(operations for _, operations in rows.values())
    lines.append(line("training, in all", f"{sum(epochs for epochs, _ in rows.values()):,.0f}", total))
    lines.append(line(f"AutoAttack of {networks} networks, fp32", "", confirm))
    lines.append(line("in all", "", total + confirm))
    each = ", ".join(f"{found.trained / forward:.1f}" for found in counted.values())
    passes = f"A forward pass of an image is {forward / 1e9:.2f} 10^9 operations; training on one takes {each} of them."
    assumed = f"Assumed: {rate:g} 10^12 operations a second, {100 * robust:g} % of the test images robust."
    return "\n".join([*lines, "", passes, assumed])


def confirmed(spec: StudySpec) -> int:
    """Return how many networks AutoAttack measures: the last of each trial, or those of a paper's table."""
    if spec.reproduces is None:
        return sum(1 for _ in trials(spec))
    of, table = spec.reproduces, reproduction.table(spec.reproduces)
    cells = {
        canonical_json(reproduction.conditions(of, row, column, spec.measure_at))
        for row in table.rows
        for column in table.columns
    }
    return len(cells) * len(spec.seeds or (spec.seed,))


def wanted(name: str) -> StudySpec:
    """Return a built-in study, one of a file, or that of a paper's table, which is written `paper/table`."""
    paper, _, table = name.partition("/")
    return reproduction.study(Reproduces(paper=paper, table=table)) if paper in reproduction.names() else load(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="a built-in study, a file or PAPER/TABLE; its space is tried as a grid")
    parser.add_argument("--rate", type=float, default=50.0, help="operations a second that the GPU sustains, in 10^12")
    parser.add_argument(
        "--robust", type=float, default=0.47, help="share of the test images that AutoAttack leaves right"
    )
    options = parser.parse_args()
    print(report(wanted(options.study), options.rate, options.robust))


if __name__ == "__main__":
    main()
