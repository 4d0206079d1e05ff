"""Global state after a user's code."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from trainables.models.isolation import isolated


def drawn() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_a_seed_decides_all_draws_and_nothing_outlasts_the_block() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    wanted = drawn()
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    draws = []
    for _ in range(2):
        with pytest.raises(KeyError), isolated(2**63):  # noqa: PT012
            draws.append(drawn())
            torch.set_default_dtype(torch.float64)
            torch.set_grad_enabled(False)
            torch.set_default_device("meta")
            raise KeyError
    assert draws[0] == draws[1]
    assert draws[0] != wanted
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    assert torch.zeros(1).device.type == "cpu"
    assert drawn() == wanted
