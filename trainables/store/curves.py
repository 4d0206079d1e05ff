"""The curve of a training: what each of its epochs gave, stored with the stage. No torch is needed to read it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields

from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True)
class EpochValues:
    """What one epoch of a training gave; None is what the training does not measure.

    `loss` and `accuracy` are means over the images trained on (attacked, if the loss attacks), as the weights were at
    each step. `validation_loss` is the last one within the epoch (`train.validate_on`). `clean_accuracy` and
    `robust_accuracy` are on the images that `train.select` holds back from training, `robust_accuracy` after
    `train.select_attack`.

    Units: `epoch` counts completed ones; eps in pixel units of [0, 1].
    """

    epoch: int
    loss: float
    accuracy: float
    lr: float
    eps: float
    validation_loss: float | None = None
    clean_accuracy: float | None = None
    robust_accuracy: float | None = None


@dataclass(frozen=True)
class TrainingCurve:
    """The epochs of one training phase, in order; an early part may be missing where an older version trained it.

    `phase` is its kind, `length` how many epochs it has, `images` how many it trains on and `examples` how many
    `train.select` holds back, of which the accuracies are. `size` says, of a network with filters that are pruned
    whole, whether it was trained without them, or why not.
    """

    phase: str
    length: int
    images: int
    examples: int
    epochs: tuple[EpochValues, ...]
    size: str = ""

    def json_text(self) -> str:
        """Return the curve as JSON with a list for each value, which takes half the space."""
        head = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "epochs"}
        return json.dumps({**head, **columns(self.epochs)}, allow_nan=False)


_CURVE = TypeAdapter(TrainingCurve)


def columns(epochs: Iterable[EpochValues]) -> dict[str, list[float | None]]:
    """Return the values of epochs by name, None where one is not finite."""
    rows = [asdict(epoch) for epoch in epochs]
    return {field.name: [_finite(row[field.name]) for row in rows] for field in fields(EpochValues)}


def numbers(epochs: Iterable[EpochValues]) -> list[list[float]]:
    """Return the values of epochs as rows of numbers, NaN for what is not measured."""
    return [[math.nan if value is None else value for value in astuple(epoch)] for epoch in epochs]


def from_numbers(rows: Iterable[Iterable[float]]) -> list[EpochValues]:
    """Return the epochs of rows that `numbers` wrote."""
    found = []
    for epoch, *values in rows:
        found.append(EpochValues(int(epoch), *(_finite(value) for value in values)))  # type: ignore[arg-type]
    return found


def parsed(text: bytes) -> TrainingCurve | None:
    """Return a stored curve; None where it is none."""
    try:
        found = json.loads(text)
        names = [field.name for field in fields(EpochValues) if field.name in found]
        values = zip(*(found.pop(name) for name in names), strict=True)
        return _CURVE.validate_python({**found, "epochs": [dict(zip(names, row, strict=True)) for row in values]})
    except (ValueError, TypeError, AttributeError, RecursionError, ValidationError):
        return None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
