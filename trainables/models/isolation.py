"""A user's code that runs without leaving a trace in torch's, numpy's and Python's global state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def isolated(seed: int | None = None) -> Iterator[None]:
    """Run a block in float32, with gradients, with random generators of its own; restore all that it changes.

    With `seed` the CPU generators of torch, numpy and Python start from it, otherwise from where they are.
    """
    numpys, pythons, dtype, device = np.random.get_state(), random.getstate(), torch.get_default_dtype(), _device()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            torch.set_default_dtype(torch.float32)
            if seed is not None:
                # Not torch.manual_seed: that seeds every GPU as well.
                torch.default_generator.manual_seed(seed)
                np.random.seed(seed % 2**32)
                random.seed(seed)
            yield
        finally:
            torch.set_default_dtype(dtype)
            if _device() != device:
                torch.set_default_device(None if device == torch.device("cpu") else device)
            np.random.set_state(numpys)
            random.setstate(pythons)


def _device() -> torch.device:
    return torch.get_default_device()
