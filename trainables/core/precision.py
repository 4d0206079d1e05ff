"""The number format that a device trains in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16"]
Resolved = Literal["fp32", "bf16"]


def resolve_precision(precision: Precision, device: torch.device | str) -> Resolved:
    """Return what `auto` means on this device; any other precision is returned as it is.

    bf16 where the processor has units that multiply bf16 matrices (AMX; GPUs since Ampere), where
    `benchmarks/train_step.py` shows it faster and `benchmarks/precision.py` equally accurate. AVX-512's bf16
    instructions alone make it slower than fp32.
    """
    if precision != "auto":
        return precision
    import torch

    device = torch.device(device)
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
    return "bf16" if native else "fp32"


def _cpu_has_bf16() -> bool:
    import torch

    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16"))
