"""The number format that a device trains in."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16"]
Resolved = Literal["fp32", "bf16"]


def resolve_precision(precision: Precision, device: torch.device | str) -> Resolved:
    """Return what `auto` means on this device; any other precision is returned as it is.

    bf16 on GPUs since Ampere, on processors with units that multiply bf16 matrices (AMX), and on those where AVX-512's
    bf16 instructions are found to be faster: with them some train up to twice as fast, others more slowly than in fp32
    (`benchmarks/train_step.py`). It is as accurate (`benchmarks/precision.py`).
    """
    if precision != "auto":
        return precision
    import torch

    device = torch.device(device)
    cuda = device.type == "cuda"
    faster = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else _faster_on_cpu()
    return "bf16" if faster else "fp32"


def _faster_on_cpu() -> bool:
    import torch

    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and multiplies_faster()))


_SIZE, _TIMES, _CLEARLY = 512, 7, 1.5


@functools.cache
def multiplies_faster() -> bool:
    """Return whether this processor multiplies matrices in bf16 clearly faster than in fp32, measured once."""
    import torch

    matrices = [torch.ones(_SIZE, _SIZE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    times: list[list[float]] = [[], []]
    for _ in range(1 + _TIMES):
        for matrix, found in zip(matrices, times, strict=True):
            began = time.perf_counter()
            matrix @ matrix
            found.append(time.perf_counter() - began)
    fp32, bf16 = (min(found[1:]) for found in times)
    return fp32 > _CLEARLY * bf16
