"""Synthetic studies: specs, records and whole directories without any training.

`make_study(directory)` writes a study on disk as a launch would have left it; the smaller builders
make its parts. Everything is determined by the arguments.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from search.launch.tally import Snapshot
from search.store.live import RunningTrial
from search.store.records import Records
from search.store.study_yaml import Fingerprint
from search.study.spec import StudySpec
from trainables.core.spec import plain
from trainables.method.phases import Measure
from trainables.recipes.trial import KeyedPhase, keyed_phases
from trainables.store.records import Failure, Outcome, PartialMeasurement, Point, TrialRecord
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Storage

if TYPE_CHECKING:
    from search.launch.driver import Driver

EXAMPLES = 360
PRUNABLE = 64 * 300 + 300 * 100 + 100 * 10
DATA_HASH = hashlib.sha256(b"digits").hexdigest()
FINGERPRINT = Fingerprint(data_hash=DATA_HASH, shape=(1, 8, 8), classes=10)
FOUND = {"fingerprint": DATA_HASH, "shape": FINGERPRINT.shape, "classes": FINGERPRINT.classes}
"""What the probe reports of the data."""
WHEN = "2030-01-02T03:04:05+00:00"


def study_spec(**changes: Any) -> StudySpec:
    """A study of digits and LeNet-300-100 that searches sparsity, training radius and loss."""
    return _study_spec() if not changes else _study_spec_of(changes)


@cache
def _study_spec() -> StudySpec:
    return _study_spec_of({})


def _study_spec_of(changes: dict[str, Any]) -> StudySpec:
    described: dict[str, Any] = {
        "name": "synthetic",
        "data": {"kind": "digits", "validation": EXAMPLES},
        "model": "lenet300",
        "recipe": {"kind": "three_stage", "epochs": 10, "finetune_epochs": 5},
        "space": {
            "recipe.sparsity": {"kind": "float", "low": 0.3, "high": 0.98},
            "recipe.train.eps": {"kind": "float", "low": 0.02, "high": 0.2},
            "recipe.train.loss.kind": {"kind": "categorical", "choices": ["madry", "trades"]},
        },
        "constraints": {"clean_accuracy": ">= 0.75"},
        "protocol": {"eps": 0.1},
        "budget": {"trials": 16},
    }
    return StudySpec.model_validate(described | changes)


def point(measure: int = 0, **changes: Any) -> Point:
    """A measured network; the counts follow from the accuracies and the sparsity given."""
    given: dict[str, Any] = {
        "robust_accuracy": 0.7,
        "clean_accuracy": 0.9,
        "sparsity": 0.5,
        "examples": EXAMPLES,
    } | changes
    robust = round(given["robust_accuracy"] * given["examples"])
    clean = round(given["clean_accuracy"] * given["examples"])
    clean = clean if "clean_accuracy" in changes else max(robust, clean)
    if "flags" in given:
        given = {"status": "warn", **given}
    elif given.get("status", "ok") != "ok":
        given = {"flags": ("gradient_masking",), **given}
    prunable = given.get("prunable", PRUNABLE)
    nonzero = round((1 - given["sparsity"]) * prunable)
    name = hashlib.sha256(repr((measure, sorted(given.items(), key=str))).encode()).hexdigest()
    counted = {
        "robust_accuracy": robust / given["examples"],
        "clean_accuracy": clean / given["examples"],
        "sparsity": 1 - nonzero / prunable,
    }
    defaults: dict[str, Any] = {
        "measure": measure,
        "key": name,
        "stage": name,
        "robust_correct": robust,
        "clean_correct": clean,
        "nonzero": nonzero,
        "prunable": PRUNABLE,
        "attack": "PGD-20",
        "norm": "linf",
        "eps": 0.1,
        "eps_text": "0.1",
        "epochs_trained": 15,
        "epochs_shared": 0,
        "seconds": 2.5,
        "device": "cpu",
        "weights_sha256": name,
        "code_version": "0.1.0",
        "started": WHEN,
        "finished": WHEN,
    }
    return Point.model_validate(defaults | given | counted)


def rung(measures: int = 0, share: float = 0.25, **changes: Any) -> PartialMeasurement:
    """A look at a training on its way; the counts follow from the sparsity given."""
    given: dict[str, Any] = {"resource": 3, "robust_accuracy": 0.5, "clean_accuracy": 0.8, "sparsity": 0.0} | changes
    nonzero = round((1 - given["sparsity"]) * PRUNABLE)
    counted = {"nonzero": nonzero, "prunable": PRUNABLE, "sparsity": 1 - nonzero / PRUNABLE}
    cheap = {"measures": measures, "share": share, "examples": 128, "attack": "PGD-5"}
    return PartialMeasurement.model_validate({**cheap, **given, **counted})


def params(number: int) -> dict[str, Any]:
    """The parameters of a synthetic trial."""
    draw = random.Random(number)
    return {
        "recipe.sparsity": round(1 - math.exp(draw.uniform(math.log(0.02), math.log(0.7))), 6),
        "recipe.train.eps": round(draw.uniform(0.02, 0.2), 6),
        "recipe.train.loss.kind": draw.choice(["madry", "trades"]),
    }


def trial(number: int, spec: StudySpec | None = None, **changes: Any) -> TrialRecord:
    """An issued trial."""
    spec = spec or study_spec()
    values = changes.pop("params", None)
    values = {path: value for path, value in params(number).items() if path in spec.space} if values is None else values
    described = spec.trial({path: value for path, value in values.items() if path in spec.space}, changes.get("seed"))
    defaults = {
        "number": number,
        "study": spec.name,
        "params": values,
        "spec": plain(described),
        "keys": tuple(step.key for step in keyed_phases(described, DATA_HASH)),
        "seed": described.seed,
        "issued": WHEN,
    }
    return TrialRecord.model_validate(defaults | changes)


def outcome(number: int, points: Iterable[Point] | None = None, **changes: Any) -> Outcome:
    """A trial's end: complete with one point, unless `state` or `failure` say otherwise."""
    state = changes.pop("state", "failed" if changes.get("failure") else "complete")
    found = tuple(points) if points is not None else ((point(),) if state == "complete" else ())
    defaults: dict[str, Any] = {"number": number, "state": state, "points": found}
    timed = {"started": WHEN, "finished": WHEN, "seconds": 5.0, "host": "node-1", "versions": {"torch": "2.11.0"}}
    return Outcome.model_validate(defaults | timed | changes)


def failure(kind: str = "diverged", message: str = "the loss is not finite in epoch 3") -> Failure:
    """Why a trial failed."""
    return Failure(kind=kind, message=message, traceback="Traceback: ...")


def measured(number: int, values: dict[str, Any]) -> tuple[Point, Point]:
    """What a synthetic trial measures: the dense network, then the pruned one; more sparsity costs robustness."""
    draw = random.Random(1000 + number)
    reach = 1 - abs(math.log(values["recipe.train.eps"] / 0.1)) / 4

    def at(measure: int, sparsity: float) -> Point:
        kept = 1 - sparsity
        robust = 0.88 * reach * (1 - math.exp(-((kept / 0.03) ** 0.6))) + draw.uniform(-0.05, 0.01)
        clean = min(0.99, 0.98 * (1 - math.exp(-((kept / 0.008) ** 0.7))) + draw.uniform(-0.02, 0.01))
        return point(
            measure,
            robust_accuracy=min(max(robust, 0.05), clean),
            clean_accuracy=clean,
            sparsity=sparsity,
            seconds=2.5 + measure,
            stands_for={} if measure else {"sparsity": 0.0},
        )

    return at(0, 0.0), at(1, values["recipe.sparsity"])


def _protocol(spec: StudySpec) -> dict[str, Any]:
    attack, eps = spec.protocol.attack, spec.protocol.eps
    return {"attack": attack.label, "norm": attack.norm, "eps": float(eps), "eps_text": eps.text}


def make_study(
    directory: Path | str, trials: int = 12, spec: StudySpec | None = None, *, troubled: bool = True, keyed: bool = True
) -> Records:
    """Write a study of `trials` trials to `directory` and return its records.

    With `troubled`, of every ten trials number 3 failed, number 5 was stopped early, number 7 has a point with a
    flag that makes it invalid, and the very last has no outcome yet. Where the study has seeds, each configuration has
    a trial for every one. Points have the keys of their trials' phases, or,
    without `keyed`, each one of its own.
    """
    spec = spec or study_spec()
    records = Records.create(Storage(str(directory)), spec, FINGERPRINT)
    for number in range(trials):
        seeds = len(spec.seeds)
        own = number // seeds if seeds else number
        named = {"configuration": own, "seed": spec.seeds[number % seeds], "params": params(own)} if seeds else {}
        issued = trial(number, spec, **named)
        records.issue(issued)
        steps = measurements(issued, spec)
        points = tuple(
            found.model_copy(update={**({"key": step.key, "stage": step.parent} if keyed else {}), **_protocol(spec)})
            for found, step in zip(measured(number, params(own)), steps, strict=False)
        )
        if troubled and number == trials - 1:
            continue
        if troubled and number % 10 == 3:
            records.write_outcome(outcome(number, points[:1], failure=failure()))
        elif troubled and number % 10 == 5:
            records.write_outcome(outcome(number, points[:1], state="stopped"))
        elif troubled and number % 10 == 7:
            spoilt = point(
                1,
                robust_accuracy=0.99,
                clean_accuracy=1.0,
                sparsity=points[1].sparsity,
                seconds=points[1].seconds,
                status="invalid",
                flags=("gradient_masking",),
                key=points[1].key,
                stage=points[1].stage,
                **_protocol(spec),
            )
            records.write_outcome(outcome(number, (points[0], spoilt)))
        else:
            records.write_outcome(outcome(number, points))
    return records


SPARSITY = {"recipe.sparsity": {"kind": "float", "low": 0.0, "high": 0.98}}


def sparsity_study(**changes: Any) -> StudySpec:
    """A study of four trials that searches the sparsity alone."""
    defaults = {"space": SPARSITY, "constraints": {}, "sampler": "random", "budget": {"trials": 4}}
    return study_spec(**{**defaults, **changes})


def sparsity_records(path: Path, **changes: Any) -> Records:
    """The records of such a study, without a trial."""
    return Records.create(Storage(str(path)), sparsity_study(**changes), FINGERPRINT)


def finish(driver: Driver, number: int, *points: Point, **changes: Any) -> Outcome | None:
    """Write the outcome as the worker does, past the driver's own records, then report the end."""
    for measured in points:
        driver.on_point(number, measured)
    Records.open(driver.records.storage).write_outcome(outcome(number, points, **changes))
    return driver.on_end(number, None)


RUNNING = RunningTrial(7, "train", 3, 20, 0.51234, seconds=65.0, silent=2.0, host="node-1", points=1, done=0.25)

SNAPSHOT = Snapshot(
    study="mine",
    target=20,
    complete=6,
    failed=1,
    running=2,
    points=14,
    front=5,
    hypervolume=0.71234,
    best=point(robust_accuracy=0.85, clean_accuracy=0.95, sparsity=0.5),
    elapsed=65.2,
    remaining=130.0,
)


def keyed_points(trial: TrialRecord, spec: StudySpec, **changes: Any) -> list[Point]:
    """A point for each measurement of a trial, with the keys that belong to it."""
    return [point(at, key=s.key, stage=s.parent, **changes) for at, s in enumerate(measurements(trial, spec))]


def measurements(trial: TrialRecord, spec: StudySpec) -> list[KeyedPhase]:
    """The phases of a trial that lead to points."""
    chain = keyed_phases(spec.trial(trial.params, trial.seed), DATA_HASH)
    return [step for step in chain if isinstance(step.phase, Measure)]


def _weights(value: float) -> State:
    return State({"w": torch.full((3,), value)}, {}, {"w": torch.ones(3, dtype=torch.bool)})


def make_stored_study(directory: Path, trials: int = 4) -> None:
    """Write a study of complete trials, and one under way, with the stages and keys that belong to them."""
    spec = study_spec()
    storage = Storage(str(directory))
    records = Records.create(storage, spec, FINGERPRINT)
    stages = Stages(storage)
    for number in range(trials):
        issued = trial(number, spec, sampler={"trial": {"nsga:generation": number}, "parents": {}})
        records.issue(issued)
        if number == trials - 1:
            stages.save_progress(issued.keys[1], 2, {"params": _weights(2.0).params}, {})
            continue
        weights = _weights(number)
        points = keyed_points(issued, spec, weights_sha256=weights.weights_sha256())
        stages.save(issued.keys[-2], weights, epochs=5, seconds=1.0, study=spec.name, trial=number)
        stages.save_point(points[-1])
        records.write_outcome(outcome(number, points, params=issued.params))
