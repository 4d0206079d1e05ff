"""Weights with a fixed mask as sparse matrices, and whether these are faster than dense ones where this runs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

LEAST_ZEROS = 0.9
"""The share of zeros from which a matrix is taken to be faster sparse."""
LEAST_SIZE = 16_384
"""The entries from which it is: products with smaller ones are over before a sparse kernel has begun."""

_SPEEDUP = 1.5
_REPEATS = 5


def suits(mask: Tensor) -> bool:
    """Return whether a weight of this mask, (outputs, inputs), is large and empty enough to be a sparse matrix."""
    zeros = mask.numel() - int(mask.sum())
    return mask.dim() == 2 and mask.numel() >= LEAST_SIZE and zeros >= LEAST_ZEROS * mask.numel()


class SparseWeight:
    """A weight that is 0 outside its mask, in CSR format, and its transpose; `refresh` copies a weight's values.

    Shapes: mask and weights (outputs, inputs).
    """

    def __init__(self, mask: Tensor, weight: Tensor) -> None:
        self._matrix, self._entries = _compressed(mask, weight)
        self._transposed, places = _compressed(mask.T, weight)
        outputs, inputs = mask.shape
        rows, columns = places // outputs, places % outputs
        self._entries_transposed = columns * inputs + rows
        self.refresh(weight)

    def refresh(self, weight: Tensor) -> None:
        """Take the values of a weight."""
        flat = weight.reshape(-1)
        torch.index_select(flat, 0, self._entries, out=self._matrix.values())
        torch.index_select(flat, 0, self._entries_transposed, out=self._transposed.values())

    def forward(self, z: Tensor) -> Tensor:
        """Multiply by the weight. Shapes: z (inputs, N) to (outputs, N)."""
        return self._matrix @ z

    def backward(self, gradient: Tensor) -> Tensor:
        """Multiply by the weight's transpose. Shapes: gradient (outputs, N) to (inputs, N)."""
        return self._transposed @ gradient


def _compressed(mask: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix in CSR format with entries where the mask is True, and their places in the mask's order."""
    places = mask.reshape(-1).nonzero()[:, 0]
    counts = torch.cat([torch.zeros(1, dtype=torch.long, device=mask.device), mask.sum(dim=1).cumsum(0)])
    values = like.new_zeros(len(places))
    with warnings.catch_warnings():  # They say that the format is young.
        warnings.simplefilter("ignore")
        matrix = torch.sparse_csr_tensor(counts, places % mask.shape[1], values, mask.shape, check_invariants=True)
    return matrix, places


def sparse_is_faster(device: torch.device) -> bool:
    """Measure whether sparse matrices are clearly faster than dense ones in the attack on a small perceptron.

    On a CPU alone; it takes a fiftieth of a second.
    """
    if device.type != "cpu":
        return False
    draws = torch.Generator().manual_seed(0)
    mask = torch.rand((300, 784), generator=draws) > LEAST_ZEROS
    weight = torch.randn(mask.shape, generator=draws) * mask
    z, gradient = torch.randn((784, 128), generator=draws), torch.randn((300, 128), generator=draws)
    try:
        sparse = SparseWeight(mask, weight)
        ours = _seconds(lambda: (sparse.forward(z), sparse.backward(gradient)))
    except RuntimeError:  # torch was built without such kernels.
        return False
    return ours * _SPEEDUP < _seconds(lambda: (weight @ z, weight.T @ gradient))


def _seconds(work: Callable[[], object]) -> float:
    """Return the least CPU time of a call."""
    work()
    taken = []
    for _ in range(_REPEATS):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)
