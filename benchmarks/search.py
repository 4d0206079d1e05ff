"""Compare searches by the epochs they need on trained curves: ours, ours without each of its parts, and its rivals.

Every method searches the studies of `benchmarks/tables` in simulated time (`simulator.py`); the table answers its
trials. Prints the epochs that all workers train until the hypervolume (robust accuracy x sparsity above 0) is 90, 95
and 98 % of the best known, that of the whole table: the median over seeds with a 95 % bootstrap interval, and its ratio
to ours. A run that does not get there within the budget counts as one that never does. Below stand the goals: ours
against the best rival as it ships, and against the best that shares trainings as ours does.

The rivals run their own code (`rivals`). They share no training, so each trial pays for its dense network; but all
their intermediate measurements count for their front, which is generous; those named `shared` and `weighted` share all
that ours shares. `--last` counts only the last measurement of a trial.

    python benchmarks/search.py                            # run what is missing, print all tables; hours on one core
    python benchmarks/search.py --show                     # print the tables of stored runs
    python benchmarks/search.py --tables digits --workers 4 --seeds 5 --methods ours optuna-tpe

Results are stored in `--results`, one file per run; a run is repeated if the code behind it has changed. A table that
is not complete yet is left out. MOASHA needs Syne Tune: `pip install --no-deps syne-tune dill`; BoTorch: `pip install
--no-deps botorch gpytorch linear_operator jaxtyping pyro-ppl pyro-api multipledispatch pyre-extensions typing-inspect
wadler-lindig opt-einsum`; Ax, beside these: `pip install --no-deps ax-platform pymoo graphviz markdown pandas comm`
and `pip install ipython ipywidgets`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A script's folder comes first on the path; put last, it does not hide the package of this file's name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

import standings
from curves import Curves, is_complete
from methods import METHODS, Entry
from simulator import Ledger, simulate

import search
import trainables
from trainables.store.storage import Storage

TABLES = Path(__file__).parent / "tables"
GOAL = 0.99
"""A run ends when it has this share of the best known hypervolume."""
TRIALS = 120
"""A run's budget of epochs is that of this many trials of middle length that share nothing."""


def budget(curves: Curves) -> int:
    """Return the epochs a run may train."""
    return TRIALS * round(curves.dense_epochs + 3.5 * curves.round_epochs)


def run(curves: Curves, entry: Entry, *, seed: int, workers: int) -> dict[str, Any]:
    """Let one method search once."""
    ledger = Ledger()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        method = entry.build(curves, ledger, seed, Storage(folder).child("study"), workers)
        simulate(method, ledger, workers=workers, epochs=budget(curves), goal=GOAL * curves.ideal)
    return {
        "all_points": [asdict(mark) for mark in ledger.all_points],
        "last_points": [asdict(mark) for mark in ledger.last_points],
        "epochs": ledger.epochs,
        "time": ledger.time,
        "trials": ledger.trials,
        "seconds": round(time.perf_counter() - began, 2),
    }


def code_of(entry: Entry) -> str:
    """Name the code that a method's runs depend on."""
    here, folder = Path(__file__).parent, Path(search.__file__).parent
    ours = entry.package == "robustsearch"
    files = [here / "curves.py", here / "simulator.py", here / "methods.py"]
    if ours:
        stages = [Path(trainables.__file__).parent / part for part in ("method", "recipes")]
        files += [here / "ours.py", *(path for part in (folder, *stages) for path in sorted(part.rglob("*.py")))]
    else:
        files += [folder / "objectives" / "pareto.py", folder / "space" / "parameters.py"]
        files += sorted((here / "rivals").rglob("*.py"))
    found = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    return found if ours else f"{found}, {entry.package} {version(entry.package)}, optuna {version('optuna')}"


def fill(
    name: str, curves: Curves, methods: list[str], workers: list[int], seeds: int, results: Path, *, show: bool
) -> list[dict[str, Any]]:
    """Return all runs on one table, made or, with `show`, found."""
    table = hashlib.sha256((TABLES / f"{name}.parquet").read_bytes()).hexdigest()[:16]
    found = []
    # Seeds outermost: a run that is cut off leaves all methods with equally many.
    for seed in range(seeds):
        for count in workers:
            for method in methods:
                entry = METHODS[method]
                if seed >= entry.seeds or (entry.by_epoch and not curves.by_epoch):
                    continue
                file = results / name / str(count) / method / f"{seed}.json"
                made_with = {"table": table, "code": code_of(entry), "budget": budget(curves), "goal": GOAL}
                known = json.loads(file.read_text()) if file.exists() else {}
                if known.get("made_with") != made_with:
                    if show:
                        if known:
                            print(f"left out, made with another version: {file}", file=sys.stderr)
                        continue
                    known = {"made_with": made_with, **run(curves, entry, seed=seed, workers=count)}
                    file.parent.mkdir(parents=True, exist_ok=True)
                    temporary = file.with_suffix(".tmp")
                    temporary.write_text(json.dumps(known))
                    temporary.replace(file)
                    print(f"{name} x{count} {method} {seed}: {known['seconds']} s", file=sys.stderr, flush=True)
                found.append({"table": name, "workers": count, "method": method, "seed": seed, **known})
    return found


def main() -> None:
    """Make what is missing and print the standings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made = sorted(path.stem for path in TABLES.glob("*.parquet") if is_complete(path))
    parser.add_argument("--tables", nargs="*", default=made, choices=made, metavar="TABLE")
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 4, 16])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path("build/search"))
    parser.add_argument("--show", action="store_true", help="run nothing, print what is there")
    parser.add_argument("--last", action="store_true", help="count only the point that a trial ends with")
    arguments = parser.parse_args()
    for name in arguments.tables:
        curves = Curves.read(TABLES / f"{name}.parquet")
        runs = fill(
            name,
            curves,
            arguments.methods,
            arguments.workers,
            arguments.seeds,
            arguments.results,
            show=arguments.show,
        )
        for count in arguments.workers:
            here = [one for one in runs if one["workers"] == count]
            title = (
                f"{name}, {count} workers, best known hypervolume {curves.ideal:.4f}, budget {budget(curves)} epochs"
            )
            marks = "last_points" if arguments.last else "all_points"
            print("\n".join(standings.lines(title, here, curves.ideal, marks)))
            rivals = {name: entry.shared for name, entry in METHODS.items() if entry.package != "robustsearch"}
            print("\n".join(standings.goals(here, curves.ideal, marks, rivals)))


if __name__ == "__main__":
    main()
