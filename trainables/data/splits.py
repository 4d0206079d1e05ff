"""Draws from labelled images in which every class keeps its share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.core.errors import SpecError
from trainables.core.rng import derive

if TYPE_CHECKING:
    import numpy as np


def quotas(counts: np.ndarray, total: int) -> np.ndarray:
    """Divide `total` among classes in proportion to `counts`, by largest remainder, ties to the lower class.

    Every share is within one of the exact proportion and at most the count.
    Shapes: counts and the result (classes,).
    """
    import numpy as np

    images = int(counts.sum())
    assert 0 <= total <= images, (total, images)
    # In integers: a remainder of floating-point numbers may fall to the wrong class.
    exact = counts.astype(np.int64) * total
    shares = exact // images
    missing = total - int(shares.sum())
    shares[np.argsort(-(exact % images), kind="stable")[:missing]] += 1
    return shares


def draw(labels: np.ndarray, total: int, *purpose: object) -> np.ndarray:
    """Return `total` indices in random order, each class in proportion, seeded by `purpose`.

    Shapes: labels (N,), the result (total,).
    """
    import numpy as np

    rng = np.random.default_rng(derive(*purpose))
    shares = quotas(np.bincount(labels), total)
    shuffled = rng.permutation(len(labels))
    chosen = [shuffled[labels[shuffled] == label][:share] for label, share in enumerate(shares)]
    return rng.permutation(np.concatenate(chosen))


def carve(labels: np.ndarray, validation: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices left for training, ascending, and those of the validation split, in random order.

    Raises:
        SpecError: there are too few images, or too few in the validation split for every class.
    """
    import numpy as np

    classes = len(np.unique(labels))
    if validation >= len(labels):
        raise SpecError(f"validation: {validation} of {len(labels)} training images leaves none to train on")
    if validation < classes:
        raise SpecError(f"validation: {validation} images are too few for {classes} classes")
    drawn = draw(labels, validation, "validation", seed)
    left = np.ones(len(labels), bool)
    left[drawn] = False
    return np.flatnonzero(left), drawn


def limited(labels: np.ndarray, training: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """Return `limit` of the indices `training`, ascending, each class in proportion.

    Raises:
        SpecError: there are fewer.
    """
    import numpy as np

    if limit is None:
        return training
    if limit > len(training):
        raise SpecError(f"limit: {limit}, but only {len(training)} images are left after the validation split")
    return np.sort(training[draw(labels[training], limit, "limit", seed)])


def shuffled(n: int, *purpose: object) -> np.ndarray:
    """Return the numbers below `n` in random order, seeded by `purpose`."""
    import numpy as np

    return np.random.default_rng(derive(*purpose)).permutation(n)
