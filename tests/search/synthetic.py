"""A study whose results are a formula, searched by the real driver without any training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from search.launch.driver import Driver
from search.objectives import pareto
from search.space.parameters import Params
from search.store.records import Records
from search.study.spec import StudySpec
from tests.search import factories
from trainables.method.phases import Measure, Train
from trainables.recipes.trial import keyed_phases
from trainables.store.records import TrialRecord
from trainables.store.storage import Storage

EPS = (0, 0.03, 0.06, 0.09, 0.12, 0.15)
L1 = (0.0, 1e-6, 1e-5, 1e-4)
REWIND = ("none", "init", 20)
Point = tuple[float, float]


def ladder_study(sampler: Any, seed: int = 0, trials: int = 200, **changes: Any) -> StudySpec:
    """A study of pruning ladders: 40 dense epochs, 6 a round, three grids beside the sparsity."""
    space = {
        "recipe.sparsity": {"kind": "float", "low": 0.0, "high": 0.98},
        "recipe.train.eps": {"kind": "categorical", "choices": EPS},
        "recipe.train.regularisers.l1": {"kind": "categorical", "choices": L1},
        "recipe.rewind": {"kind": "categorical", "choices": REWIND},
    }
    recipe = {"kind": "imp", "epochs": 40, "rate": 0.3, "round_epochs": 6}
    fixed = {"name": "ladder", "recipe": recipe, "space": space, "constraints": {}}
    return factories.study_spec(**fixed, sampler=sampler, seed=seed, budget={"trials": trials}, **changes)


def robust(params: Mapping[str, Any]) -> float:
    """A made-up network: a larger training radius helps until 0.1, needs more weights, and l1 spares some."""
    eps, l1 = float(params["recipe.train.eps"]), params["recipe.train.regularisers.l1"]
    sparsity = params["recipe.sparsity"]
    strength = math.log10(l1 / 1e-7) if l1 else 0.0
    needed = 0.015 * (1 + 27 * eps) * (1 - 0.12 * min(strength, 2.5))
    reach = 1 - math.exp(-(((1 - sparsity) / needed) ** 0.7))
    top = 0.2 + 0.6 * (1 - math.exp(-eps / 0.05)) - 0.9 * max(0.0, eps - 0.1) - 0.012 * strength**1.5
    top += {"init": -0.06, 20: 0.03}.get(params["recipe.rewind"], 0.0) * sparsity
    name = repr(sorted(params.items())).encode()
    luck = int.from_bytes(hashlib.sha256(name).digest()[:4], "big") / 2**32 - 0.5
    return max(0.0, top * reach + 0.03 * luck)


def ideal() -> float:
    """The hypervolume of all combinations at sparsities close together."""
    grid = [1 - 0.02 ** (at / 120) for at in range(121)]
    others = [(eps, l1, rewind) for eps in EPS for l1 in L1 for rewind in REWIND]
    names = ("recipe.sparsity", "recipe.train.eps", "recipe.train.regularisers.l1", "recipe.rewind")
    return pareto.hypervolume(
        [(max(robust(dict(zip(names, (s, *rest), strict=True))) for rest in others), s) for s in grid]
    )


def measured(
    spec: StudySpec, record: TrialRecord, trained_keys: set[str], worth: Callable[[Params], float] = robust
) -> Iterator[tuple[Any, int]]:
    """Yield points and the epochs trained for each; stages in `trained_keys` cost nothing, new ones are added to it."""
    epochs = measures = 0
    for step in keyed_phases(spec.trial(record.params), factories.DATA_HASH):
        if isinstance(step.phase, Train) and step.key not in trained_keys:
            epochs += step.phase.epochs - step.phase.start
        trained_keys.add(step.key)
        if isinstance(step.phase, Measure):
            here = {f"recipe.{name}": value for name, value in step.phase.stands_for.items()}
            params = {path: here.get(path, value) for path, value in record.params.items()}
            exact = {"robust_accuracy": worth(params), "sparsity": params["recipe.sparsity"], "examples": 100_000}
            found = factories.point(measures, stands_for=step.phase.stands_for, clean_accuracy=0.95, **exact)
            yield found.model_copy(update={"key": step.key}), epochs
            measures += 1


def epochs_to(share: float, spec: StudySpec, directory: Path, most: int) -> int:
    """Search until the front covers so much of the ideal; return the epochs trained by then, at most `most`."""
    goal = share * ideal()
    driver = Driver(Records.create(Storage(str(directory)), spec, factories.FINGERPRINT))
    trained_keys: set[str] = set()
    values: list[Point] = []
    total = 0
    while total < most and (record := driver.next()):
        points = []
        for point, epochs in measured(spec, record, trained_keys):
            points.append(point)
            values.append((point.robust_accuracy, point.sparsity))
            driver.on_point(record.number, point)
            if pareto.hypervolume(values) >= goal:
                return total + epochs
        total += epochs
        driver.records.write_outcome(factories.outcome(record.number, points))
        driver.on_end(record.number, None)
    return most


def run_trials(records: Records, trials: int) -> Driver:
    """Run trials of a study to their end."""
    driver = Driver(records)
    trained_keys: set[str] = set()
    for _ in range(trials):
        record = driver.next()
        assert record is not None
        points = [point for point, _ in measured(records.spec, record, trained_keys)]
        for point in points:
            driver.on_point(record.number, point)
        records.write_outcome(factories.outcome(record.number, points))
        driver.on_end(record.number, None)
    return driver
