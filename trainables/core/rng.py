"""Random generators derived from their purpose; there is no global seed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(*parts: object) -> int:
    """Return a 63-bit seed from a sequence of names and numbers."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(key: str, epoch: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator for one purpose in one epoch of the phase with this key.

    Because every epoch starts its own, no generator state has to be saved, and a resumed run
    draws what an uninterrupted one would have drawn.
    """
    import torch

    return torch.Generator(device).manual_seed(derive(key, epoch, purpose))
