"""Generators follow from what they are for, and from nothing else."""

from __future__ import annotations

import torch

from trainables.core.rng import derive, generator


def test_seeds_follow_from_their_parts_alone() -> None:
    assert derive("order", 3) == derive("order", "3") == 4219176741761377109
    assert derive("ab", "c") != derive("a", "bc")
    assert all(0 <= derive("seed", number) < 2**63 for number in range(1000))
    assert len({derive("seed", number) for number in range(1000)}) == 1000


def test_each_purpose_of_each_epoch_has_its_own_draws() -> None:
    def draws(key: str, epoch: int, purpose: str) -> list[float]:
        return torch.rand(3, generator=generator(key, epoch, purpose)).tolist()

    first = draws("key", 1, "order")
    torch.manual_seed(7)
    assert draws("key", 1, "order") == first, "no global generator is involved"
    others = (draws("other", 1, "order"), draws("key", 2, "order"), draws("key", 1, "attack"))
    assert all(other != first for other in others)
