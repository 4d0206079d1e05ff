"""Whether a network that was rewritten is still the same function."""

from __future__ import annotations

from torch import Tensor

_CLOSE = 1e-3


def same_logits(found: Tensor, wanted: Tensor) -> bool:
    """Return whether two tensors of logits, (N, classes), differ by at most a thousandth of the largest wanted one."""
    return found.shape == wanted.shape and bool(((found - wanted).abs() <= _CLOSE * wanted.abs().max()).all())
