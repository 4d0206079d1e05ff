"""The cores and the device that a worker was given."""

from __future__ import annotations

import os
import socket

import torch

from trainables.core.errors import NoDevice


def use_assigned_threads() -> None:
    """Compute on as many threads as this worker was given cores (`OMP_NUM_THREADS`), by default on one."""
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))


def assigned_device(gpus: float) -> torch.device:
    """Return the device of a trial that was given `gpus` GPUs: Ray hides no GPU from one that asked for none."""
    return torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")


def required_device(gpus: float) -> torch.device:
    """Return what `assigned_device` does.

    Raises:
        NoDevice: torch sees none of the GPUs; what a CPU computes instead would be stored as a GPU's.
    """
    device = assigned_device(gpus)
    if gpus and device.type == "cpu":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise NoDevice(
            f"a trial was given {gpus:g} GPUs on {socket.gethostname()}, but torch {torch.__version__} sees none there "
            f"(CUDA_VISIBLE_DEVICES: {visible}); look at its driver with `nvidia-smi`"
        )
    return device
