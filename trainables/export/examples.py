"""The examples on which a network was measured, one by one: which they are, and which it classified correctly."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.core.errors import DataError
from trainables.data import cache
from trainables.data.base import Data
from trainables.data.splits import carve
from trainables.data.tensors import load
from trainables.measure.evaluate import classified, exact, unpack_verdicts

BATCH = 128
"""Images per forward pass; the rounding of logits depends on it."""


@dataclass(frozen=True, eq=False)
class Examples:
    """The first images of the validation split, in their order.

    Shapes: index, labels (N,) int64: rows of the training files, and classes; pixels (N, C, H, W) float32 in [0, 1].
    """

    index: NDArray[np.int64]
    labels: Tensor
    pixels: Tensor
    stored: Tensor
    scale: float
    split_hash: str

    def described(self) -> dict[str, Any]:
        """Return what identifies the examples, for a card."""
        content = hashlib.sha256(self.stored.contiguous().numpy().tobytes())
        content.update(self.labels.numpy().astype("<i8").tobytes())
        return {
            "split": "validation",
            "split_hash": self.split_hash,
            "examples": len(self.index),
            "images_sha256": content.hexdigest(),
            "scale": self.scale,
        }


def examples(spec: Data, count: int, data_hash: str) -> Examples:
    """Read the first `count` images of the validation split.

    Raises:
        DataError: the files are missing, damaged, or others than those with the hash `data_hash`.
    """
    data = load(spec)
    if data.fingerprint != data_hash:
        raise DataError("the files of the data set here are others than those that the study was trained on")
    (_, labels), _ = cache.training_arrays(spec)
    _, order = carve(labels, spec.validation, spec.split_seed)
    part = slice(0, count)
    return Examples(
        index=order[part].astype(np.int64),
        labels=data.validation.y[part],
        pixels=data.validation.pixels(part),
        stored=data.validation.x[part],
        scale=data.validation.scale,
        split_hash=data.split_hash,
    )


def clean_verdicts(net: nn.Module, found: Examples) -> NDArray[np.bool_]:
    """Return which examples a network on the CPU classifies correctly, in exact arithmetic, by batches of `BATCH`."""
    verdicts = []
    with exact(torch.device("cpu")):
        for first in range(0, len(found.labels), BATCH):
            x = found.pixels[first : first + BATCH].contiguous(memory_format=torch.channels_last)
            verdicts.append(classified(net, x, found.labels[first : first + BATCH], 1)[0])
    return torch.cat(verdicts).numpy()


def table(found: Examples, clean: NDArray[np.bool_], robust: str) -> bytes:
    """Return the examples as CSV: `index`, `label`, and the verdicts `clean` and `robust` as 1 or 0.

    `robust` is the packed verdicts of a record; without them the column is empty.
    """
    stood = unpack_verdicts(robust, len(clean)).astype(int).astype(str) if robust else [""] * len(clean)
    rows = zip(found.index.tolist(), found.labels.tolist(), clean.astype(int).tolist(), stood, strict=True)
    return ("index,label,clean,robust\n" + "".join(f"{i},{y},{c},{r}\n" for i, y, c, r in rows)).encode()


def confirmed_table(examples: int, clean: str, robust: str) -> bytes:
    """Return packed verdicts on the test split as CSV: `position` in its order, `clean` and `robust`."""
    both = (unpack_verdicts(text, examples).astype(int).tolist() for text in (clean, robust))
    rows = (f"{at},{c},{r}\n" for at, (c, r) in enumerate(zip(*both, strict=True)))
    return ("position,clean,robust\n" + "".join(rows)).encode()
