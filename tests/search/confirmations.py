"""Confirmed studies without any training: results of `robustsearch confirm` as they would lie on disk.

`make_confirmed_study(directory)` writes a study of `factories.make_study` and confirms its front. Everything is
determined by the arguments.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.results.study import Study
from search.results.table import PointRow
from search.store.records import Records
from tests.search import factories
from trainables.store import confirmations
from trainables.store.confirmations import Confirmation

EXAMPLES = 200
RADII = ("0.025", "0.05", "0.2", "0.4")
PLANNED = ("clean", "autoattack", "square", "transfer-dense", "fmn", *(f"sweep-{radius}" for radius in RADII))


def hexed(verdicts: Sequence[bool] | np.ndarray) -> str:
    """Pack verdicts as they are stored."""
    return np.packbits(np.asarray(verdicts, dtype=bool)).tobytes().hex()


def confirmation(correct: Sequence[bool], attacked: Sequence[bool] | None = None, **changes: Any) -> Confirmation:
    """A result; by default the clean accuracy of a network of its own, on these examples."""
    attacked = [True] * len(correct) if attacked is None else attacked
    weights = hashlib.sha256(b"network").hexdigest()
    defaults: dict[str, Any] = {
        "point": "t0.1",
        "seed": 0,
        "weights_sha256": weights,
        "stage": weights,
        "attack": "clean",
        "role": "clean",
        "label": "clean",
        "norm": "linf",
        "eps": 0.0,
        "eps_text": "0",
        "split_sha256": hashlib.sha256(b"test").hexdigest(),
        "examples": len(correct),
        "attacked": hexed(attacked),
        "correct": hexed(correct),
        "attacked_count": int(np.sum(attacked)),
        "correct_count": int(np.sum(correct)),
        "sparsity": 0.5,
        "nonzero": factories.PRUNABLE // 2,
        "prunable": factories.PRUNABLE,
        "seconds": 1.5,
        "device": "cpu",
        "code_version": "0.1.0",
        "started": factories.WHEN,
        "finished": factories.WHEN,
    }
    return Confirmation.model_validate(defaults | changes)


def attack(
    name: str, correct: Sequence[bool], attacked: Sequence[bool], eps: str = "0.1", **changes: Any
) -> Confirmation:
    """The result of an attack at a radius."""
    named = {"attack": name, "role": "attack", "label": name.upper(), "eps": float(eps), "eps_text": eps}
    return confirmation(correct, attacked, **(named | changes))


def network(row: PointRow, seed: int = 0, *, limit: int | None = None, examples: int = EXAMPLES) -> list[Confirmation]:
    """All results for a point, or for a retraining with another seed: less robust than the search's estimate."""
    draw = random.Random(f"{row.weights_sha256}-{seed}")
    hard = [random.Random(example).random() for example in range(examples)]
    reach = max(0.02, row.robust_accuracy - 0.05 + draw.uniform(-0.02, 0.02))
    easy = [0.7 * each + 0.3 * draw.random() for each in hard]
    clean = [each < row.clean_accuracy - 0.01 for each in easy]
    distances = [0.1 * math.exp((reach - each) * 4) if right else 0.0 for each, right in zip(easy, clean, strict=True)]
    other = hashlib.sha256(f"{row.weights_sha256} {seed}".encode()).hexdigest()
    shared: dict[str, Any] = {
        "point": row.point,
        "seed": seed,
        "stage": row.measured.stage,
        "weights_sha256": row.weights_sha256 if seed == row.seed else other,
        "planned": PLANNED,
        "limit": limit,
        **{name: getattr(row, name) for name in ("sparsity", "nonzero", "prunable", "macs_dense", "macs_effective")},
    }
    found = [confirmation(clean, **shared)]
    left = clean
    for name, share in (("autoattack", 1.0), ("square", 1.02), ("transfer-dense", 1.03)):
        stands = [right and distance > 0.1 * share for right, distance in zip(left, distances, strict=True)]
        found.append(attack(name, stands, left, **shared))
        left = stands
    found.append(_minimal(distances, clean, shared))
    left = clean
    for radius in RADII:
        stands = [right and distance > float(radius) for right, distance in zip(left, distances, strict=True)]
        found.append(attack(f"sweep-{radius}", stands, left, radius, **shared))
        left = stands
    return found


def _minimal(distances: list[float], clean: list[bool], shared: dict[str, Any]) -> Confirmation:
    """What a minimum-norm attack finds, a little farther away than the nearest adversarial examples."""
    found = tuple(round(1.05 * distance, 6) for distance in distances)
    stands = [right and distance > 0.1 for right, distance in zip(clean, found, strict=True)]
    return attack("fmn", stands, clean, **shared, distances=found)


def confirm(
    records: Records, *, seeds: int = 3, limit: int | None = None, points: Sequence[PointRow] | None = None
) -> None:
    """Confirm points of a study, by default its front, each with several seeds."""
    for row in Study(records).front() if points is None else points:
        for seed in range(row.seed, row.seed + seeds):
            for result in network(row, seed, limit=limit, examples=limit or EXAMPLES):
                assert confirmations.write(records.storage, result)


def make_confirmed_study(directory: Path | str, trials: int = 12, *, seeds: int = 3, limit: int | None = None) -> Study:
    """Write a study of `trials` trials whose front is confirmed, and open it."""
    records = factories.make_study(directory, trials)
    confirm(records, seeds=seeds, limit=limit)
    return Study(records)
