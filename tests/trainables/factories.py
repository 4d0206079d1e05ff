"""Small trials on the digits, and how tests run them without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from trainables.core.spec import plain
from trainables.data import tensors
from trainables.recipes.trial import TrialSpec
from trainables.store import paths
from trainables.store.records import Outcome, Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.progress import Progress
from trainables.worker.run import Run

CPU = torch.device("cpu")
FAST = {
    "batch": 128,
    "eps": 0.1,
    "attack": {"kind": "pgd", "steps": 2},
    "optimiser": {"kind": "adam", "lr": 2e-3},
    "precision": "fp32",
}
"""Fields of a training of about 0.1 seconds an epoch."""


def trial(seed: int = 0, **recipe: Any) -> TrialSpec:
    """Return a trial of iterative magnitude pruning: 3 epochs, then 2 rounds of 2, and three points."""
    fields = {"kind": "imp", "sparsity": 0.75, "rate": 0.5, "epochs": 3, "rewind": 1, "train": FAST, **recipe}
    protocol = {"eps": 0.1, "examples": 100, "attack": {"kind": "pgd", "steps": 3}}
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits", "limit": 600},
            "model": "lenet300",
            "recipe": fields,
            "protocol": protocol,
            "seed": seed,
        }
    )


def run(spec: TrialSpec, folder: Path, number: int = 0, checkpoint_seconds: float = 30.0) -> Run:
    """Return the run of a trial with its stages in a folder."""
    data = tensors.load(spec.data, CPU)
    return Run(spec, data, Stages(Storage(str(folder))), number, "study", CPU, checkpoint_seconds)


def run_in_study(root: Path, study: str, spec: TrialSpec, number: int = 0) -> Run:
    """Return the run of a trial of one of several studies in one storage."""
    storage = Storage(str(root))
    data = tensors.load(spec.data, CPU)
    return Run(spec, data, Stages(storage.child(study), storage), number, study, CPU)


def points(progress: Iterator[Progress]) -> list[Point]:
    """Return the points that a run measures."""
    return [now.point for now in progress if now.point is not None]


def job_config(folder: Path, spec: TrialSpec, number: int = 0) -> dict[str, Any]:
    """Return a worker's configuration, and write the trial's record first, as the driver does."""
    Storage(str(folder)).claim(paths.trial_record(number), b"{}")
    return {
        "number": number,
        "study": "study",
        "title": f"study-{number}",
        "spec": plain(spec),
        "fingerprint": tensors.load(spec.data, CPU).fingerprint,
        "storage": str(folder),
        "resources": {"CPU": 1},
    }


def outcome(folder: Path, number: int = 0) -> Outcome:
    """Return a trial's recorded outcome."""
    return Outcome.model_validate_json(Storage(str(folder)).read(paths.outcome(number)))
