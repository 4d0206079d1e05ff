"""Confirm the results on tables with real training: `robustsearch launch` against Ray Tune with OptunaSearch.

Both search the same study with the same number of workers, and train the same code on the same data. Ray, records and
workers are real. The rival's trials run from the start, because Tune cannot share training; all their intermediate
measurements count for its front. For each seed, the output compares our front after all trials with the rival's after
as many epochs, and gives the epochs that the rival needs for the same hypervolume (robust accuracy x sparsity above 0).

    python benchmarks/end_to_end.py [quickstart | tables/digits.yaml] [--trials 60] [--rival 40] [--seeds 3]
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

import standings
from rivals import multivariate
from simulator import Front

from search.cluster.spec import Local
from search.launch.api import launch
from search.launch.prepare import resized
from search.samplers.optuna.study import distribution
from search.study import file as study_file
from search.study.spec import StudySpec
from trainables.recipes.trial import TrialSpec
from trainables.store.storage import Storage

Values = list[float]


@dataclass(frozen=True)
class Ended:
    """A trial that ran to its end: when (any clock), the epochs it trained, and the objectives it measured."""

    when: float
    epochs: int
    values: list[Values]


def ours(spec: StudySpec, workers: int, folder: str) -> list[Ended]:
    """Launch the study, and return what its records say."""
    study = launch(spec.resolved(), cluster=Local(cpus=workers), storage=folder, view=lambda snapshot: None)
    print(study.ending, file=sys.stderr)
    outcomes = [outcome for _, outcome in study.records.trials() if outcome and outcome.points]
    return [
        Ended(float(order), end.points[-1].epochs_trained, [[p.robust_accuracy, p.sparsity] for p in end.points])
        for order, end in enumerate(sorted(outcomes, key=lambda end: (end.finished, end.number)))
    ]


def alone(trial: str) -> tuple[int, list[Values]]:
    """Run a trial from its start to its end; return its epochs and what it measured."""
    import torch

    from trainables.data import tensors
    from trainables.store.stages import Stages
    from trainables.worker.run import Run

    spec = TrialSpec.model_validate_json(trial)
    with tempfile.TemporaryDirectory() as folder:
        stages = Stages(Storage(folder))
        run = Run(spec, tensors.load(spec.data), stages, number=0, study="alone", device=torch.device("cpu"))
        points = [progress.point for progress in run.progress() if progress.point is not None]
    return points[-1].epochs_trained, [[point.robust_accuracy, point.sparsity] for point in points]


def rival(spec: StudySpec, workers: int, trials: int, folder: str) -> list[Ended]:
    """Let Ray Tune run this many trials from its OptunaSearch."""
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from trainables.core.spec import plain

    def trainable(config: dict[str, Any]) -> None:
        epochs, values = alone(TrialSpec.model_validate(plain(spec.trial(config))).model_dump_json(by_alias=True))
        tune.report({"robust": values[-1][0], "sparsity": values[-1][1], "epochs": epochs, "values": values})

    space = {path: distribution(parameter) for path, parameter in spec.space.items()}
    chosen = OptunaSearch(space, metric=["robust", "sparsity"], mode=["max", "max"], sampler=multivariate(spec.seed))
    with Local(cpus=workers).connect():
        results = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=workers, search_alg=chosen),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
    rows = [result.metrics for result in results if result.metrics and "values" in result.metrics]
    return [Ended(row["timestamp"], row["epochs"], row["values"]) for row in rows]


def rise(ended: list[Ended]) -> list[tuple[int, float]]:
    """Return the epochs trained, and the hypervolume, after each trial in order of their ends."""
    front, epochs, found = Front(), 0, []
    for trial in sorted(ended, key=lambda trial: trial.when):
        epochs += trial.epochs
        for values in trial.values:
            front.add(values)
        found.append((epochs, front.hypervolume))
    return found


def at(curve: list[tuple[int, float]], epochs: int) -> float:
    """Return the hypervolume after this many epochs."""
    return max((volume for spent, volume in curve if spent <= epochs), default=0.0)


def until(curve: list[tuple[int, float]], volume: float) -> float:
    """Return the epochs until so much hypervolume; infinite where it was never reached."""
    return next((float(spent) for spent, found in curve if found >= volume), math.inf)


def main() -> None:
    """Run both for every seed and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default="quickstart", help="a built-in study or a file")
    parser.add_argument("--trials", type=int, default=60, help="of ours")
    parser.add_argument("--rival", type=int, default=40, help="trials of the rival")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    spec = study_file.load(arguments.study)
    spec = resized(spec, str(arguments.trials), None)
    ratios = []
    for seed in range(arguments.seeds):
        seeded = spec.model_copy(update={"seed": seed})
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            mine = rise(ours(seeded, arguments.workers, folder))
            mine_seconds, began = time.perf_counter() - began, time.perf_counter()
            theirs = rise(rival(seeded, arguments.workers, arguments.rival, folder))
            their_seconds = time.perf_counter() - began
        (epochs, volume), (their_epochs, their_volume) = mine[-1], theirs[-1]
        same = min(volume, their_volume)
        ratios.append(until(theirs, same) / until(mine, same))
        print(
            f"seed {seed}: ours {volume:.4f} after {epochs} epochs ({mine_seconds:.0f} s); OptunaSearch "
            f"{at(theirs, epochs):.4f} after as many, {their_volume:.4f} after {their_epochs} ({their_seconds:.0f} s); "
            f"to {same:.4f} ours {until(mine, same):.0f}, OptunaSearch {until(theirs, same):.0f} epochs",
            flush=True,
        )
    print(f"epochs of OptunaSearch over ours, to the same hypervolume: median {standings.median(ratios):.1f}")


if __name__ == "__main__":
    main()
