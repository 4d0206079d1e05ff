"""The cores and the device that a worker was given."""

from __future__ import annotations

import os

import torch


def use_assigned_threads() -> None:
    """Compute on as many threads as this worker was given cores (`OMP_NUM_THREADS`), by default on one."""
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))


def assigned_device(gpus: float) -> torch.device:
    """Return the device of a trial that was given `gpus` GPUs: Ray hides no GPU from one that asked for none."""
    return torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")
