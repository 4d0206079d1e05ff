"""Distances between two trainings, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from trainables.metrics.base import MetricContext, Trainings
from trainables.metrics.dynamics import Dynamics
from trainables.store.state import State


def line(slope: float) -> State:
    """Return a network of two logits, 0 and slope * (x - 0.5): all of its robustness is known."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    state = State.of(net)
    state.params["1.weight"] = torch.tensor([[0.0], [slope]])
    state.params["1.bias"] = torch.tensor([0.0, -0.5 * slope])
    return state


def context(trainings: Callable[[], Trainings | None]) -> MetricContext:
    state = line(1.0)
    net = state.into(nn.Sequential(nn.Flatten(), nn.Linear(1, 2))).eval().requires_grad_(False)
    # The second is right, but within 0.1 of the border; the others are right and far.
    x = torch.tensor([0.1, 0.55, 0.8, 0.9]).view(4, 1, 1, 1)
    y = torch.tensor([0, 1, 1, 1])
    right = torch.ones(4, dtype=torch.bool)
    return MetricContext(net, state, x, y, 0.1, "linf", right, right, lambda: state, torch.Generator(), trainings)


def squares(slope: float) -> float:
    """Return the mean square of slope * (x - 0.5) over images and both logits."""
    return slope**2 * (0.4**2 + 0.05**2 + 0.3**2 + 0.4**2) / 8


def test_epochs_that_both_have_and_the_ends_are_compared() -> None:
    ours = {1: line(1.0), 3: line(-1.0), 4: line(2.0)}
    first = {1: line(3.0), 2: line(7.0), 3: line(1.0), 8: line(2.5)}
    found = Dynamics(epochs=(1, 3)).values(context(lambda: (ours, first)))
    # Slopes differ by 2, 2 and 0.5. A negative one has every image wrong, a positive one three of four robust.
    assert found["dynamics_logits"] == pytest.approx((2 * squares(2.0) + squares(0.5)) / 3, rel=1e-5)
    assert found["dynamics_robust"] == pytest.approx(0.75 / 3)


def test_an_end_at_the_same_epoch_counts_once_and_a_training_is_no_distance_from_itself() -> None:
    found = Dynamics().values(context(lambda: ({2: line(1.0)}, {2: line(2.0)})))
    assert found == {"dynamics_logits": pytest.approx(squares(1.0), rel=1e-5), "dynamics_robust": 0.0}
    same = {1: line(1.0), 2: line(2.0)}
    assert set(Dynamics(epochs=(1,)).values(context(lambda: (same, same))).values()) == {0.0}


def test_without_two_trainings_there_is_no_estimate() -> None:
    assert all(math.isnan(value) for value in Dynamics().values(context(lambda: None)).values())
