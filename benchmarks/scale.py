"""Measure what the search itself costs as a study grows: 10,000 trials and 100 workers, simulated, without training.

The real driver issues trials over real records on disk and learns from outcomes in the format of a worker. Workers are
simulated: each trial takes a minute of simulated time and measures four points by a formula. Prints milliseconds per
trial at 100, 1,000 and 10,000 trials, by part (sampler and issue; learning from points and the end; the snapshot that
is shown once a second), the share of a one-minute trial that its worker waits for the search, which serves one worker
at a time (real seconds of the search are added to the simulated ones), and the seconds to open the study, list its
front and resume the search.

    python benchmarks/scale.py [--trials 10000] [--workers 100] [--samplers random tpe ehvi] [--json FILE]
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

MINUTE = 60.0
MARKS = (100, 1_000, 10_000)

STUDY = """
name: scale
data: digits
model: lenet300
recipe: {kind: imp, epochs: 20, rate: 0.5, round_epochs: 10}
space:
  recipe.sparsity: {kind: float, low: 0.5, high: 0.98}
  recipe.train.eps: {kind: categorical, choices: [0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16]}
  recipe.rewind: {kind: categorical, choices: [init, 2, 5, 10, dense_trained, none]}
  recipe.train.regularisers.l1: {kind: categorical, choices: [0.0, 1e-6, 1e-5, 1e-4]}
  recipe.train.optimiser.lr: {kind: float, low: 1e-3, high: 1e-1, log: true}
protocol: {eps: 0.1}
"""


WHEN = "2030-01-01T00:00:00+00:00"


class Clock:
    """Sum of real seconds by part, for the trials since the last mark."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = defaultdict(list)

    def timed(self, part: str, action: Any, *arguments: Any) -> Any:
        began = time.perf_counter()
        result = action(*arguments)
        self.parts[part].append(time.perf_counter() - began)
        return result


def points_of(record: Any) -> list[Any]:
    """Return what a trial would measure: the dense network and each round, by a formula of its parameters."""
    from trainables.method.phases import Measure
    from trainables.recipes import trial as trial_spec
    from trainables.store.records import Point

    trial = trial_spec.TrialSpec.model_validate(record.spec)
    prunable, examples = 50_000, 1_000
    now = datetime.now(UTC).isoformat(timespec="seconds")
    reach = (
        0.9
        - 2 * abs(record.params["recipe.train.eps"] - 0.1)
        - abs(math.log10(trial.recipe.train.optimiser.lr) + 2) / 20
    )
    found = []
    steps = trial_spec.keyed_phases(trial, "")
    measures = [(step.key, step.phase) for step in steps if isinstance(step.phase, Measure)]
    for index, (key, phase) in enumerate(measures):
        sparsity = phase.stands_for["sparsity"]
        correct = round(examples * max(0.1, reach * (1 - math.exp(-(((1 - sparsity) / 0.03) ** 0.6)))))
        nonzero = round((1 - sparsity) * prunable)
        found.append(
            Point(
                measure=index,
                key=key,
                stage=key,
                robust_accuracy=correct / examples,
                clean_accuracy=0.95,
                robust_correct=correct,
                clean_correct=950,
                examples=examples,
                sparsity=1 - nonzero / prunable,
                nonzero=nonzero,
                prunable=prunable,
                attack="PGD-20",
                norm="linf",
                eps=0.1,
                eps_text="0.1",
                verdicts=f"{((1 << correct) - 1) << (examples - correct):0{examples // 4}x}",
                epochs_trained=20 + 10 * index,
                epochs_shared=0,
                seconds=15.0,
                device="cpu",
                weights_sha256=key,
                code_version="0",
                started=now,
                finished=now,
                stands_for=phase.stands_for,
            )
        )
    return found


def simulate(sampler: str, trials: int, workers: int, folder: str) -> list[dict[str, Any]]:
    """Run the search and return a row per mark: milliseconds per trial by part, around that number of trials."""
    from search.launch.driver import Driver
    from search.launch.prepare import resized
    from search.store.records import Records
    from search.store.study_yaml import Fingerprint
    from search.study import file as study_file
    from trainables.store.records import Outcome
    from trainables.store.storage import Storage

    spec = study_file.loads(STUDY + f"sampler: {sampler}\n", "scale")
    spec = resized(spec, str(trials), None, [])
    storage = Storage(folder).child(f"scale-{sampler}")
    records = Records.create(storage, spec, Fingerprint(data_hash="0" * 64, shape=(1, 8, 8), classes=10))
    driver = Driver(records, ahead=2 * workers)
    clock, rows = Clock(), []
    running: list[tuple[float, int, Any, list[Any]]] = []
    free: list[float] = [0.0] * workers
    driver_free, seen, ended = 0.0, 0.0, 0
    while ended < trials:
        while free:
            began = time.perf_counter()
            record = driver.next()
            if record is None:
                break
            spent = time.perf_counter() - began
            clock.parts["issue"].append(spent)
            asked = heapq.heappop(free)
            driver_free = max(driver_free, asked) + spent
            clock.parts["wait"].append(driver_free - asked)
            driver.on_progress(record.number, len(record.keys))
            heapq.heappush(running, (driver_free + MINUTE, record.number, record, points_of(record)))
        now, number, _, points = heapq.heappop(running)
        heapq.heappush(free, now)
        Records(storage, spec, records.fingerprint).write_outcome(
            Outcome(number=number, state="complete", points=tuple(points), started=WHEN, finished=WHEN, seconds=60.0)
        )
        began = time.perf_counter()
        for point in points:
            clock.timed("points", driver.on_point, number, point)
        clock.timed("end", driver.on_end, number, None)
        if now - seen >= 1:
            clock.timed("snapshot", driver.snapshot)
            seen = now
        driver_free = max(driver_free, now) + time.perf_counter() - began
        ended += 1
        if ended in MARKS or ended == trials:
            rows.append({"sampler": sampler, "trials": ended, **_row(clock)})
            print(_line(rows[-1]), flush=True)
            clock = Clock()
    return rows


def _row(clock: Clock, last: int = 100) -> dict[str, float]:
    """Return milliseconds per trial around the mark, and the share of a one-minute trial that its worker waits."""

    def recent(part: str, calls: float = 1) -> float:
        found = clock.parts[part][-math.ceil(last * calls) :]
        return 1e3 * statistics.mean(found) * calls if found else 0.0

    calls = len(clock.parts["points"]) / max(1, len(clock.parts["end"]))
    row = {part: recent(part) for part in ("issue", "end", "snapshot", "wait")}
    return {**row, "points": recent("points", calls), "share": row["wait"] / 1e3 / MINUTE}


def _line(row: dict[str, Any]) -> str:
    return (
        "{sampler:<8}{trials:>7} trials: issue {issue:7.1f} ms, points {points:6.1f} ms, end {end:6.1f} ms a trial; "
        "snapshot {snapshot:6.1f} ms; a worker waits {share:.2%} of a minute".format(**row)
    )


def opening(folder: str, sampler: str) -> dict[str, float]:
    """Return the seconds to open the finished study and list its front, and to take up its search."""
    from search.launch.driver import Driver
    from search.results.status import status
    from search.results.study import Study
    from search.store.records import Records
    from trainables.store.storage import Storage

    location = f"{folder}/scale-{sampler}"
    began = time.perf_counter()
    study = Study.open(location)
    study.trials()
    opened = time.perf_counter()
    study.front()
    front = time.perf_counter()
    status(study)
    stated = time.perf_counter()
    Driver(Records.open(Storage(location)))
    resumed = time.perf_counter()
    return {"open": opened - began, "front": front - opened, "status": stated - front, "resume": resumed - stated}


def main() -> None:
    """Read the command line, simulate, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe", "ehvi"])
    parser.add_argument("--folder", type=Path, help="where the studies are written [default: a temporary directory]")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for sampler in arguments.samplers:
            rows = simulate(sampler, arguments.trials, arguments.workers, folder)
            opened = opening(folder, sampler)
            print(
                f"{sampler:<8}" + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in opened.items()), flush=True
            )
            results.append({"rows": rows, "opening": opened})
    if arguments.json:
        arguments.json.write_text(json.dumps({"python": sys.version, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
