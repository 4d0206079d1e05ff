"""Train all levels of a study and store their curves: the tables that `benchmarks/search.py` replays.

For each combination of the searched values except the sparsity, this trains all rounds with the code of a trial
(training, pruning, keys and generators of `trainables`), so that the last epoch of a round measures exactly what a
trial would report. Every epoch of every round is measured, by the study's protocol and cheaply (`CHEAP`). Combinations
with the same dense training share it. The study file determines everything except the seconds.

A row is an epoch: `round` 0 is the dense training, whose `rewind` is null; counts are of the metadata's `examples`.
Results are stored in a folder, one file per dense training; an interrupted run resumes from it.

    python benchmarks/make_tables.py digits fashion [--parts build/tables]      # an hour on one core
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from curves import DENSE, EPS, GROUP_LASSO, L1, LOSS, REWIND, SPARSITY
from torch import nn

from search.study import file as study_file
from search.study.spec import StudySpec
from trainables import __version__, models
from trainables.attacks.pgd import Pgd
from trainables.core.rng import generator
from trainables.data import tensors
from trainables.data.tensors import TrainingData
from trainables.engine.train import train
from trainables.measure import evaluate
from trainables.method.phases import Prune, Rewind, Train
from trainables.method.protocol import Protocol
from trainables.pruning.cut import prune
from trainables.recipes.trial import KeyedPhase, TrialSpec, keyed_phases
from trainables.store.state import State

TABLES = Path(__file__).parent / "tables"
CHEAP = {"attack": Pgd(steps=5), "examples": 100}

SCHEMA = pa.schema(
    [
        ("eps", pa.float64()),
        ("loss", pa.string()),
        ("l1", pa.float64()),
        ("group_lasso", pa.float64()),
        ("rewind", pa.string()),
        ("round", pa.uint8()),
        ("epoch", pa.uint8()),
        ("sparsity", pa.float32()),
        ("robust", pa.uint16()),
        ("clean", pa.uint16()),
        ("cheap_robust", pa.uint8()),
        ("cheap_clean", pa.uint8()),
        ("status", pa.string()),
    ]
)
Row = dict[str, Any]
CPU = torch.device("cpu")


def study(name: str) -> StudySpec:
    """Read the study of a table."""
    return study_file.load(TABLES / f"{name}.yaml")


@dataclass
class Laboratory:
    """What all chains of a study share."""

    spec: StudySpec
    data: TrainingData
    model: nn.Module
    initial: State

    @classmethod
    def of(cls, spec: StudySpec) -> Laboratory:
        """Load the data and build the network."""
        data = tensors.load(spec.data)
        model = models.build(
            spec.model, shape=data.shape, classes=data.classes, mean=data.mean, std=data.std, seed=spec.seed
        )
        return cls(spec, data, model, State.of(model))

    def measured(self, state: State) -> Row:
        """Measure a network by the study's protocol, and cheaply."""
        protocol = self.spec.protocol
        full = evaluate.measure(self.model, state, protocol, self.data.validation, device=CPU)
        cheap = evaluate.measure(
            self.model, state, Protocol(eps=protocol.eps, **CHEAP), self.data.validation, device=CPU
        )
        return {
            "sparsity": 1 - full.nonzero / full.prunable,
            "robust": int(full.robust_correct.sum()),
            "clean": int(full.clean_correct.sum()),
            "cheap_robust": int(cheap.robust_correct.sum()),
            "cheap_clean": int(cheap.clean_correct.sum()),
            "status": full.status,
        }


@dataclass(frozen=True)
class Dense:
    """A dense training: its end, the states on its way that are rewound to, and its rows."""

    end: State
    snapshots: dict[int, State]
    rows: list[Row]


def trained(laboratory: Laboratory, step: KeyedPhase, state: State) -> Dense:
    """Train one phase, measuring after each epoch."""
    assert isinstance(step.phase, Train)
    kept: dict[int, State] = {}
    rows = []
    for epoch in train(laboratory.model, state, step.phase, laboratory.data, key=step.key, device=CPU):
        state = epoch.state()
        if epoch.epoch in step.phase.snapshots:
            kept[epoch.epoch] = state
        rows.append({"epoch": epoch.epoch, **laboratory.measured(state)})
    return Dense(state, kept, rows)


def pruned(laboratory: Laboratory, trial: TrialSpec, dense: Dense) -> Iterator[Row]:
    """Run the rounds after a dense training, as `trainables.worker.run` would."""
    chain = keyed_phases(trial, laboratory.data.fingerprint)
    first = next(index for index, step in enumerate(chain) if isinstance(step.phase, Train))
    state, rounds = dense.end, 0
    for step in chain[first + 1 :]:
        phase = step.phase
        if isinstance(phase, Prune):
            state = prune(phase.pruning, phase.sparsity, state, generator(step.key, 0, "prune", CPU), rates=phase.rates)
        elif isinstance(phase, Rewind):
            source = {"init": laboratory.initial, "dense_trained": dense.end, **dense.snapshots}[phase.to]
            state = State(source.params, source.buffers, state.masks).masked()
        elif isinstance(phase, Train):
            rounds += 1
            found = trained(laboratory, step, state)
            state = found.end
            yield from ({"round": rounds, **row} for row in found.rows)


def part(laboratory: Laboratory, params: dict[str, Any]) -> pa.Table:
    """Train the chains of one dense training: all ways to rewind, to the last rung."""
    spec = laboratory.spec
    rewinds = spec.space[REWIND].choices
    snapshots = tuple(choice for choice in rewinds if isinstance(choice, int))
    top = {**params, SPARSITY: max(spec.space[SPARSITY].choices)}
    trials = [spec.trial({**top, REWIND: choice}).model_copy(update={"snapshots": snapshots}) for choice in rewinds]
    step = next(s for s in keyed_phases(trials[0], laboratory.data.fingerprint) if isinstance(s.phase, Train))
    dense = trained(laboratory, step, laboratory.initial)
    rows = [{"rewind": None, "round": 0, **row} for row in dense.rows]
    for choice, trial in zip(rewinds, trials, strict=True):
        rows += [{"rewind": str(choice), **row} for row in pruned(laboratory, trial, dense)]
    values = {"eps": params[EPS], "loss": params[LOSS], "l1": params[L1], "group_lasso": params[GROUP_LASSO]}
    return pa.Table.from_pylist([{**values, **row} for row in rows], SCHEMA)


def dense_choices(spec: StudySpec) -> list[dict[str, Any]]:
    """Return the values of every dense training, in an order in which any part of them covers the space."""
    combinations = itertools.product(*(spec.space[path].choices for path in DENSE))
    return [dict(zip(DENSE, values, strict=True)) for values in combinations]


def make(name: str, folder: Path, say: Callable[[str], None]) -> Path:
    """Train what is missing in `folder`, then put the table together."""
    spec = study(name)
    laboratory = Laboratory.of(spec)
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    choices = dense_choices(spec)
    files = []
    for index, params in enumerate(choices):
        trial = spec.trial({**params, REWIND: "init"})
        key = next(s.key for s in keyed_phases(trial, laboratory.data.fingerprint) if isinstance(s.phase, Train))
        files.append(folder / f"{key[:16]}.parquet")
        if files[-1].exists():
            continue
        began = time.perf_counter()
        made = part(laboratory, params)
        seconds = time.perf_counter() - began
        temporary = files[-1].with_suffix(".tmp")
        pq.write_table(made.replace_schema_metadata({"seconds": f"{seconds:.3f}"}), temporary, compression="zstd")
        temporary.replace(files[-1])
        say(f"{name}: {index + 1} of {len(choices)}, {seconds:.1f} s")
    parts = [pq.read_table(file) for file in files]
    seconds = sum(float(found.schema.metadata[b"seconds"]) for found in parts)
    whole = pa.concat_tables([found.replace_schema_metadata(None) for found in parts])
    path = TABLES / f"{name}.parquet"
    pq.write_table(whole.replace_schema_metadata(described(spec, laboratory, seconds)), path, compression="zstd")
    return path


def described(spec: StudySpec, laboratory: Laboratory, seconds: float) -> dict[str, str]:
    """Return how a table was made."""
    examples = spec.protocol.examples or len(laboratory.data.validation)
    return {
        "study": json.dumps(spec.resolved()),
        "data_sha256": laboratory.data.fingerprint,
        "examples": str(examples),
        "cheap": json.dumps({"steps": CHEAP["attack"].steps, "examples": CHEAP["examples"]}),
        "made_with": f"robustsearch {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "processor": platform.processor() or platform.machine(),
        "threads": str(torch.get_num_threads()),
        "seconds": f"{seconds:.0f}",
    }


def main() -> None:
    """Make the tables that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["digits", "fashion"])
    parser.add_argument("--parts", type=Path, default=Path("build/tables"), help="folder of what is done so far")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        path = make(name, arguments.parts, lambda line: print(line, file=sys.stderr, flush=True))
        print(path)


if __name__ == "__main__":
    main()
