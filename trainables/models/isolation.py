"""Code that runs without leaving a trace in torch's, numpy's and Python's global state, or depending on it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def isolated(seed: int | None = None, on: torch.device | None = None) -> Iterator[None]:
    """Run a block in float32, with gradients, with random generators of its own; restore all that it changes.

    With `seed` the generators of torch, numpy and Python start from it, otherwise from where they are. They are those
    of the CPU, and that of the GPU `on`, if it is one.
    """
    numpys, pythons, dtype, device = np.random.get_state(), random.getstate(), torch.get_default_dtype(), _device()
    gpus = [on] if on is not None and on.type == "cuda" else []
    with torch.random.fork_rng(gpus), torch.enable_grad():
        try:
            torch.set_default_dtype(torch.float32)
            if seed is not None:
                # Not torch.manual_seed: that seeds every GPU as well.
                torch.default_generator.manual_seed(seed)
                for gpu in gpus:
                    index = torch.cuda.current_device() if gpu.index is None else gpu.index
                    torch.cuda.default_generators[index].manual_seed(seed)
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
