"""Trials of seconds on the digits, and what runs them in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainables.core.spec import plain
from trainables.data import tensors
from trainables.recipes.trial import TrialSpec
from trainables.store import paths
from trainables.store.records import Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.run import Report, Run

if TYPE_CHECKING:
    from trainables.worker.tune_trainable import RobustsearchTrial

CPU = torch.device("cpu")
FAST = {
    "batch": 128,
    "eps": 0.1,
    "attack": {"kind": "pgd", "steps": 2},
    "optimiser": {"kind": "adam", "lr": 2e-3},
    "precision": "fp32",
}


def trial(seed: int = 0, **recipe: Any) -> TrialSpec:
    fields = {"kind": "imp", "sparsity": 0.75, "rate": 0.5, "epochs": 3, "rewind": 1, "train": FAST, **recipe}
    protocol = {"eps": 0.1, "examples": 100, "attack": {"kind": "pgd", "steps": 3}}
    return TrialSpec.model_validate(
        {"data": "digits", "model": "lenet300", "recipe": fields, "protocol": protocol, "seed": seed}
    )


def run(spec: TrialSpec, place: Path, number: int = 0, checkpoint_seconds: float = 30.0) -> Run:
    data = tensors.load(spec.data, CPU)
    return Run(spec, data, Stages(Storage(str(place))), number, "study", CPU, checkpoint_seconds)


def points(reports: Iterator[Report]) -> list[Point]:
    return [report.point for report in reports if report.point is not None]


def run_beside(shelf: Path, study: str, spec: TrialSpec, number: int = 0) -> Run:
    """A trial of one of several studies in one storage."""
    storage = Storage(str(shelf))
    data = tensors.load(spec.data, CPU)
    return Run(spec, data, Stages(storage.child(study), storage), number, study, CPU)


def config(place: Path, spec: TrialSpec, number: int = 0) -> dict[str, Any]:
    """What a worker is given; the trial's record is there, as the driver writes it first."""
    Storage(str(place)).claim(paths.trial_record(number), b"{}")
    return {
        "number": number,
        "study": "study",
        "title": f"study-{number}",
        "spec": plain(spec),
        "fingerprint": tensors.load(spec.data, torch.device("cpu")).fingerprint,
        "storage": str(place),
        "resources": {"CPU": 1},
    }


def run_out(worker: RobustsearchTrial) -> list[dict[str, Any]]:
    results = [worker.step()]
    while not results[-1]["done"]:
        results.append(worker.step())
    return results
