"""Measure what a trial costs besides its training: 200 trials that train nothing, through the whole search.

Everything but training is real: the sampler's suggestion, records on disk, Ray Tune and its workers with torch loaded,
the stage store, a measurement (of 10 images). For comparison, Ray Tune runs the same trials with its defaults, without
actor reuse. Prints seconds per trial. A worker's share, which is what a trial waits, is the wall time times the number
of workers divided by the number of trials.

    python benchmarks/overhead.py [--trials 200] [--workers 2] [--rival 20]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

STUDY = """
name: overhead
plugins: [no_work]
data: digits
model: {kind: lenet300, hidden: [16]}
recipe: {kind: no_work, train: {precision: fp32}}
space:
  recipe.sparsity: {kind: float, low: 0.0, high: 0.98}
protocol: {eps: 0.1, examples: 10, attack: {kind: pgd, steps: 1}}
"""


def ours(trials: int, workers: int) -> tuple[float, float]:
    """Return the seconds from the first issued to the last ended trial, and the median of a trial's own work."""
    from search.cluster.spec import Local
    from search.files import yaml
    from search.launch.api import launch

    marks: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        study = launch(
            yaml.parse(STUDY, "overhead").data,
            cluster=Local(cpus=workers),
            trials=trials,
            storage=folder,
            view=lambda snapshot: marks.append((time.perf_counter(), snapshot.finished)),
        )
        print(study.ending, file=sys.stderr)
        outcomes = [outcome for _, outcome in study.records.trials() if outcome]
        assert len(outcomes) == trials, f"{len(outcomes)} of {trials} trials ended"
        assert all(outcome.state == "complete" for outcome in outcomes)
        work = sorted(outcome.seconds for outcome in outcomes)[trials // 2]
    # From the first view, when the workers have started, to the last: the steady state.
    (begin, done_before), (end, done) = next(mark for mark in marks if mark[1] > 0), marks[-1]
    return (end - begin) / max(1, done - done_before), work


def rival(trials: int, workers: int) -> float:
    """Return the seconds per trial of Ray Tune with a function that imports torch and returns."""
    from ray import tune

    from search.cluster.spec import Local

    def nothing(config: dict[str, Any]) -> dict[str, float]:
        import torch

        return {"value": float(torch.tensor(config["x"]))}

    with Local(cpus=workers).connect(), tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        tune.Tuner(
            nothing,
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=workers, reuse_actors=False),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        return (time.perf_counter() - began) / trials


def main() -> None:
    """Run both and print seconds per trial and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rival", type=int, default=20, help="trials of the comparison; 0 leaves it out")
    arguments = parser.parse_args()
    mine, work = ours(arguments.trials, arguments.workers)
    print(f"robustsearch: {mine:.3f} s a trial with {arguments.workers} workers ({arguments.trials} trials)")
    print(f"  of which in the worker, waiting for nothing: {work:.3f} s (median)")
    if arguments.rival:
        other = rival(arguments.rival, arguments.workers)
        print(f"Ray Tune, no actor reuse, torch imported: {other:.3f} s a trial ({arguments.rival} trials)")
        print(f"ratio: {other / mine:.1f}")


if __name__ == "__main__":
    main()
