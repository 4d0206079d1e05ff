"""Draws from labelled images in which every class keeps its share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.core.errors import SpecError
from trainables.core.rng import derive

if TYPE_CHECKING:
    import numpy as np

_TRIED = 2000
"""How far from a refused number of images a better one is sought."""


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


def check_classes(
    labels: np.ndarray, validation: np.ndarray, training: np.ndarray, limit: int | None, names: tuple[str, ...]
) -> None:
    """Refuse a split without images of a class; `training` are the indices after `limit`.

    Shapes: labels (N,) from 0 to the number of classes - 1; validation and training are indices of images.

    Raises:
        SpecError: names the class, and the nearest number with which each class has images.
    """
    import numpy as np

    counts = np.bincount(labels, minlength=len(names))
    there = np.flatnonzero(counts)  # Not all classes of a data set like CIFAR-100 are, in a part of it.
    names, counts = tuple(names[label] for label in there), counts[there]
    held = np.bincount(labels[validation], minlength=there[-1] + 1)[there]
    left = counts - held
    if few := [name for name, count in zip(names, counts, strict=True) if count == 1]:
        raise SpecError(
            f"the class {few[0]!r} has one image; a class needs two or more, to train on and for the validation split: "
            "add images, or leave the class out with `select`"
        )
    for part, split in (("in the validation split", held), ("to train on", left)):
        if not split.all():
            name, total = names[int(split.argmin())], int(held.sum())
            works = _nearest(counts, total, counts - 1)
            advice = f"{works} is the nearest number that works" if works else "add images, or leave it out by `select`"
            raise SpecError(f"validation: {total} leaves no image of the class {name!r} {part}; {advice}")
    some = np.bincount(labels[training], minlength=there[-1] + 1)[there]
    if limit is not None and not some.all():
        works = _nearest(left, limit, left)
        raise SpecError(
            f"limit: {limit} leaves no image of the class {names[int(some.argmin())]!r} to train on; "
            f"{works} is the nearest number that works"
        )


def _nearest(counts: np.ndarray, total: int, most: np.ndarray) -> int | None:
    """Return the number nearest to `total` that gives each class an image, and at most `most` of them."""
    import numpy as np

    images = int(counts.sum())
    # Rounding alone decides beyond these.
    sure = (-(-images // int(counts.min())), int(np.min(most * images // counts)))
    tried = (number for step in range(1, _TRIED) for number in (total + step, total - step) if 0 < number < images + 1)
    for number in tried:
        shares = quotas(counts, number)
        if shares.all() and (shares <= most).all():
            return number
    if sure[0] > sure[1]:
        return None
    return sure[0] if total < sure[0] else sure[1]


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
