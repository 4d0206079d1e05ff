"""Train all levels of a study and store their curves: the tables that `benchmarks/search.py` replays.

For each combination of the searched values except the sparsity, this trains all rounds with the code of a trial
(training, pruning, keys and generators of `trainables`), so that the last epoch of a round measures exactly what a
trial would report, but for flags: no sanity checks are made. Combinations with the same dense training share it. The
study file determines everything except the seconds.

A row is a round's end. A searched parameter has a column of its name with the position of its choice; `round` 0 is the
dense training, where the choices that only later phases know are null; counts are of the metadata's `examples`. In the
older tables, of which `digits` and `fashion` are left, every epoch is a row, was measured cheaply too, and was checked.

A table is built over as many sittings as it takes: the file holds what is trained so far, dense trainings in a random
order that the study fixes, and the next call continues. Replays need a whole table; `benchmarks/hardness.py` reads any.

    python benchmarks/make_tables.py digits-wide fashion-wide [--minutes 20]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
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
from curves import chained, choices_of, dense_paths
from torch import nn

from search.space.parameters import SPARSITY_PATH
from search.study import file as study_file
from search.study.spec import StudySpec
from trainables import __version__, models
from trainables.core.rng import generator
from trainables.data import tensors
from trainables.data.tensors import TrainingData
from trainables.engine.train import train
from trainables.measure import evaluate
from trainables.method.phases import Prune, Rewind, Train
from trainables.pruning.cut import prune
from trainables.recipes.trial import KeyedPhase, TrialSpec, keyed_phases
from trainables.store.state import State

TABLES = Path(__file__).parent / "tables"

MEASURED = {
    "round": pa.uint8(),
    "epoch": pa.uint8(),
    "sparsity": pa.float32(),
    "robust": pa.uint16(),
    "clean": pa.uint16(),
}
Row = dict[str, Any]
CPU = torch.device("cpu")


def study(name: str) -> StudySpec:
    """Read the study of a table."""
    return study_file.load(TABLES / f"{name}.yaml")


def schema(spec: StudySpec) -> pa.Schema:
    """Return the columns of a study's table."""
    return pa.schema([*((path, pa.uint8()) for path in choices_of(spec)), *MEASURED.items()])


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
        model = models.build_for(data, spec.model, seed=spec.seed)
        return cls(spec, data, model, State.of(model))

    def measured(self, state: State) -> Row:
        """Measure a network by the study's protocol, without sanity checks, which would take longer than all else."""
        found = evaluate.measure(self.model, state, self.spec.protocol, self.data.validation, device=CPU, checked=False)
        return {
            "sparsity": 1 - found.nonzero / found.prunable,
            "robust": int(found.robust_correct.sum()),
            "clean": int(found.clean_correct.sum()),
        }


@dataclass(frozen=True)
class Trained:
    """A training: its end, the states on its way that are rewound to, and its row."""

    end: State
    snapshots: dict[int, State]
    row: Row


def trained(laboratory: Laboratory, step: KeyedPhase, state: State) -> Trained:
    """Train one phase and measure its end."""
    assert isinstance(step.phase, Train)
    kept: dict[int, State] = {}
    for epoch in train(laboratory.model, state, step.phase, laboratory.data, key=step.key, device=CPU):
        if epoch.epoch in step.phase.snapshots:
            kept[epoch.epoch] = epoch.state()
    state = epoch.state()
    return Trained(state, kept, {"epoch": epoch.epoch, **laboratory.measured(state)})


def pruned(laboratory: Laboratory, trial: TrialSpec, dense: Trained) -> Iterator[Row]:
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
            yield {"round": rounds, **found.row}


def part(laboratory: Laboratory, chains: list[Row]) -> pa.Table:
    """Train the chains of one dense training, given as all choices but the sparsity, to the last level."""
    spec, choices = laboratory.spec, choices_of(laboratory.spec)
    top = {SPARSITY_PATH: max(spec.space[SPARSITY_PATH].spaced(0))}
    trials = [spec.trial({**params, **top}) for params in chains]
    step = next(s for s in keyed_phases(trials[0], laboratory.data.fingerprint) if isinstance(s.phase, Train))
    dense = trained(laboratory, step, laboratory.initial)
    shared = {path: choices[path].index(chains[0][path]) for path in dense_paths(spec)}
    rows = [{**shared, "round": 0, **dense.row}]
    for params, trial in zip(chains, trials, strict=True):
        at = {path: choices[path].index(value) for path, value in params.items()}
        rows += [{**at, **row} for row in pruned(laboratory, trial, dense)]
    return pa.Table.from_pylist(rows, schema(spec))


def parts(spec: StudySpec) -> list[list[Row]]:
    """Return the chains of each dense training, in a random order: what is trained first is a fair sample of all."""
    paths = dense_paths(spec)
    by_dense: dict[tuple[Any, ...], list[Row]] = {}
    for params in chained(spec):
        by_dense.setdefault(tuple(params[path] for path in paths), []).append(params)
    found = list(by_dense.values())
    random.Random(spec.seed).shuffle(found)
    return found


def make(name: str, minutes: float, say: Callable[[str], None], folder: Path = TABLES) -> int:
    """Train what is missing until the sitting ends; return how many dense trainings are still missing."""
    spec = study(name)
    laboratory = Laboratory.of(spec)
    path = folder / f"{name}.parquet"
    whole = pq.read_table(path) if path.exists() else schema(spec).empty_table()
    about = {key.decode(): value.decode() for key, value in (whole.schema.metadata or {}).items()}
    # Compared as specs: a later version may know more fields, which have their defaults.
    if about and StudySpec.model_validate(json.loads(about["study"])) != spec:
        raise SystemExit(f"{path} is of another study than {name}.yaml: move one of them away")
    wanted, done = parts(spec), int(about.get("parts", 0))
    seconds, until = float(about.get("seconds", 0)), time.monotonic() + 60 * minutes
    for index in range(done, len(wanted)):
        if time.monotonic() >= until:
            break
        began = time.process_time()
        whole = pa.concat_tables([whole.replace_schema_metadata(None), part(laboratory, wanted[index])])
        seconds, done = seconds + time.process_time() - began, index + 1
        temporary = path.with_suffix(".tmp")
        about = described(laboratory, seconds, done, len(wanted))
        pq.write_table(whole.replace_schema_metadata(about), temporary, compression="zstd")
        temporary.replace(path)
        say(f"{name}: {done} of {len(wanted)}, {time.process_time() - began:.1f} s")
    return len(wanted) - done


def described(laboratory: Laboratory, seconds: float, done: int, of: int) -> dict[str, str]:
    """Return how a table was made, in how many seconds of processor time, and how much of it there is."""
    spec = laboratory.spec
    examples = spec.protocol.examples or len(laboratory.data.validation)
    return {
        "study": json.dumps(spec.resolved()),
        "data_sha256": laboratory.data.fingerprint,
        "examples": str(examples),
        "made_with": f"robustsearch {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "processor": platform.processor() or platform.machine(),
        "threads": str(torch.get_num_threads()),
        "seconds": f"{seconds:.0f}",
        "parts": str(done),
        "of": str(of),
    }


def main() -> None:
    """Continue the tables that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--minutes", type=float, default=math.inf, help="how long a table's sitting may take")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        missing = make(name, arguments.minutes, lambda line: print(line, file=sys.stderr, flush=True))
        print(f"{TABLES / f'{name}.parquet'}: {f'{missing} dense trainings are missing' if missing else 'complete'}")


if __name__ == "__main__":
    main()
