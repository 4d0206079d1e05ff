"""The test split. Only `trainables.confirm` may import this module, which a test over the source checks."""

from __future__ import annotations

import torch

from trainables.data.base import Data
from trainables.data.cache import checked
from trainables.data.splits import shuffled
from trainables.data.tensors import Split, to_split


def load_test(spec: Data, device: torch.device | str = "cpu") -> Split:
    """Read the test files, in a fixed random order, so that the first images are a fair sample.

    Raises:
        DataError: files are missing or damaged.
    """
    images, labels = checked(spec, spec.read_test())
    order = shuffled(len(labels), "test")
    return to_split(images[order], labels[order], spec.scale, device)
