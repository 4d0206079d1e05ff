"""Which inputs a network classifies correctly: one rule, for measurements, metrics and attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def wrong(logits: Tensor, y: Tensor) -> Tensor:
    """Return which inputs (N,) count as misclassified: by their logits (N, K), or because these are not finite.

    Shapes: y (N,) class indices.
    """
    return (logits.argmax(dim=1) != y) | broken(logits)


def correct(logits: Tensor, y: Tensor) -> Tensor:
    """Return which inputs (N,) are classified correctly: the others than those that are `wrong`."""
    return ~wrong(logits, y)


def broken(logits: Tensor) -> Tensor:
    """Return which rows (N,) of logits (N, K) are not finite."""
    # A sum of products with 0 is 0 where all are finite; `isfinite` takes twice the time.
    return (logits * 0).sum(dim=1) != 0
