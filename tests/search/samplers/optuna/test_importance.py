"""Which parameters matter for reaching the front: one that does is found; points outside of the space do not count."""

from __future__ import annotations

import random

import pytest

from search.samplers.optuna.importance import LEAST, importance
from search.space.parameters import Categorical, FloatRange, Parameter

SPACE: dict[str, Parameter] = {
    "matters": FloatRange(low=0.0, high=1.0),
    "idle": FloatRange(low=1e-4, high=1.0, log=True),
    "kind": Categorical(choices=("a", "b")),
    "beta": FloatRange(low=1.0, high=6.0, when={"kind": ("b",)}),
}
Points = list[tuple[dict[str, object], tuple[float, ...] | None]]


def drawn(count: int, objectives: int = 2) -> Points:
    """Points that are near the front where `matters` is near 0.8."""
    draw = random.Random(0)
    points: Points = []
    for _ in range(count):
        params: dict[str, object] = {
            "matters": draw.random(),
            "idle": 10 ** draw.uniform(-4, 0),
            "kind": draw.choice("ab"),
        }
        if params["kind"] == "b":
            params["beta"] = draw.uniform(1, 6)
        share = draw.random()
        reach = 1 - abs(float(str(params["matters"])) - 0.8)
        points.append((params, (share * reach, (1 - share) * reach, 0.5)[:objectives] if objectives > 1 else (reach,)))
    return points


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_parameter_that_decides_comes_first_and_the_shares_add_up(objectives: int) -> None:
    found = importance(SPACE, drawn(120, objectives))
    assert found is not None
    assert next(iter(found.shares)) == "matters"
    assert found.shares["matters"] > 0.5
    assert set(found.shares) == set(SPACE)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.top, found.points) == (12, 120)


def test_points_outside_of_the_space_do_not_count() -> None:
    points = drawn(LEAST)
    outside: Points = [({"matters": 2.0, "idle": 0.1, "kind": "a"}, (1.0, 1.0)), ({"matters": 0.5, "kind": "c"}, None)]
    found = importance(SPACE, [*points, *outside])
    assert found is not None
    assert found.points == LEAST
    assert importance(SPACE, [*points[1:], *outside]) is None


def test_a_parameter_that_only_invalid_points_have_is_not_near_the_front() -> None:
    points = [(params, None if float(str(params["matters"])) < 0.5 else (0.5, 0.5)) for params, _ in drawn(60)]
    found = importance(SPACE, points)
    assert found is not None
    assert next(iter(found.shares)) == "matters"
    assert importance(SPACE, [(params, None) for params, _ in points]) is None
