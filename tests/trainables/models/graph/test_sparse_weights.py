"""Weights of a fixed mask as sparse matrices."""

from __future__ import annotations

import pytest
import torch

from trainables.models.graph import sparse_weights
from trainables.models.graph.sparse_weights import SparseWeight, sparse_is_faster, suits


def test_products_are_those_of_the_dense_weight_and_follow_it() -> None:
    draws = torch.Generator().manual_seed(0)
    mask = torch.rand((30, 50), generator=draws) > 0.9
    mask[3], mask[:, 5] = False, False
    weight = torch.randn((30, 50), generator=draws)
    sparse = SparseWeight(mask, weight)
    z, gradient = torch.randn((50, 7), generator=draws), torch.randn((30, 7), generator=draws)
    for _ in range(2):
        torch.testing.assert_close(sparse.forward(z), (weight * mask) @ z)
        torch.testing.assert_close(sparse.backward(gradient), (weight * mask).T @ gradient)
        weight = torch.randn((30, 50), generator=draws)
        sparse.refresh(weight)


@pytest.mark.parametrize(
    ("shape", "zeros", "suitable"),
    [((300, 784), 0.95, True), ((300, 784), 0.85, False), ((10, 100), 0.95, False), ((20, 50, 5, 5), 0.95, False)],
)
def test_large_and_empty_matrices_suit(shape: tuple[int, ...], zeros: float, suitable: bool) -> None:
    assert suits(torch.rand(shape, generator=torch.Generator().manual_seed(0)) > zeros) == suitable


def test_what_is_not_clearly_faster_or_has_no_kernel_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def taking(*seconds: float) -> bool:
        left = iter(seconds)
        monkeypatch.setattr(sparse_weights, "_seconds", lambda work: next(left))
        return sparse_is_faster(torch.device("cpu"))

    assert taking(1.0, 2.0)
    assert not taking(1.0, 1.2)

    def refused(work: object) -> float:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(sparse_weights, "_seconds", refused)
    assert not sparse_is_faster(torch.device("cpu"))
    assert not sparse_is_faster(torch.device("cuda"))
