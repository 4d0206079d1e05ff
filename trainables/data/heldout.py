"""The test split. Only `trainables.confirm` may import this module, which a test over the source checks."""

from __future__ import annotations

import torch

from trainables.data.base import Data
from trainables.data.cache import checked, described, numbered
from trainables.data.splits import shuffled
from trainables.data.tensors import Split, to_split


def load_test(spec: Data, device: torch.device | str = "cpu") -> Split:
    """Read the test files, in a fixed random order, so that the first images are a fair sample.

    Raises:
        DataError: files are missing or damaged.
    """
    arrays = checked(spec, spec.read_test())
    values = spec.select or (range(spec.classes) if spec.classes else described(spec).classes.values)
    images, labels = numbered(spec, arrays, tuple(values))
    order = shuffled(len(labels), "test")
    return to_split(images[order], labels[order], spec.scale, device)
