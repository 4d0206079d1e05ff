"""Equal images: found once, while a data set is decoded, and refused where many are on both sides of the split."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SHARE = 0.01
"""The share of the validation images above which equal ones among the training images are not chance."""

Repeats = tuple[tuple[int, int], ...]
"""Pairs of an image and the first image that equals it, for every image that is not the first of its kind."""


def repeats(images: np.ndarray) -> Repeats:
    """Find equal images by the hash of their pixels. Shapes: images (N, C, H, W) uint8."""
    from hashlib import blake2b

    first: dict[bytes, int] = {}
    found = ((row, first.setdefault(blake2b(image, digest_size=16).digest(), row)) for row, image in enumerate(images))
    return tuple((row, earliest) for row, earliest in found if row != earliest)


def contradictions(found: Repeats, labels: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return the pairs of equal images with different labels. Shapes: labels (N,)."""
    return tuple((row, first) for row, first in found if labels[row] != labels[first])


def across(found: Repeats, training: np.ndarray, validation: np.ndarray) -> list[tuple[int, int]]:
    """Return the validation images that equal a training image, each with one that it equals.

    Shapes: training and validation are indices of images.
    """
    import numpy as np

    if not found:
        return []
    pairs = np.asarray(found, np.int64)
    group = np.arange(max(int(pairs.max()), int(training.max()), int(validation.max())) + 1)
    group[pairs[:, 0]] = pairs[:, 1]
    trained = np.full(len(group), -1)
    trained[group[training]] = training
    equal = trained[group[validation]]
    return [(int(row), int(other)) for row, other in zip(validation, equal, strict=True) if other >= 0]


def too_many(count: int, validation: int) -> bool:
    """Return whether so many of the validation images equal a training image that it is not chance."""
    return count > max(1, SHARE * validation)
