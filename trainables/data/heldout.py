"""The test split. Only the workers of `confirm` and `benchmark-entry` may import this module; a test checks that."""

from __future__ import annotations

import torch

from trainables.core.errors import DataError
from trainables.data.base import Data
from trainables.data.cache import checked, described, numbered
from trainables.data.classes import Classes
from trainables.data.content import Content, readable
from trainables.data.splits import shuffled
from trainables.data.tensors import Split, to_split


def load_test(spec: Data, device: torch.device | str = "cpu", *, in_file_order: bool = False) -> Split:
    """Read the test files, in a fixed random order, so that the first images are a fair sample.

    The order of the files is for protocols that ask for their first images.

    Raises:
        DataError: files are missing or damaged.
    """
    read = spec.read_test()
    arrays = checked(spec, read)
    names = read.names if isinstance(read, Content) else ()
    if names or spec.classes is None:
        found = described(spec).classes
        _check_names(spec, names, found)
        values = found.values
    else:
        values = spec.select or tuple(range(spec.classes))
    images, labels = numbered(spec, arrays, values)
    _check_shape(spec, images.shape[1:])
    order = slice(None) if in_file_order else shuffled(len(labels), "test")
    return to_split(images[order], labels[order], spec.scale, device)


def _check_shape(spec: Data, shape: tuple[int, ...]) -> None:
    """Refuse test images of another size than those that networks are trained on; many networks take them."""
    trained = spec.shape or described(spec).fingerprint.shape
    if shape != trained:
        sizes = ["x".join(map(str, each)) for each in (shape, trained)]
        raise DataError(
            f"{spec.kind}: the test images are {sizes[0]} (channels, height, width), the training images {sizes[1]}"
        )


def _check_names(spec: Data, names: tuple[str, ...], training: Classes) -> None:
    """Refuse test labels that stand for other classes than the training labels."""
    for value, name in zip(training.values, training.names, strict=True):
        other = readable(names[value]) if value < len(names) else name
        if other != name != str(value):
            raise DataError(f"{spec.kind}: the label {value} is {name!r} in training and {other!r} in test files")
