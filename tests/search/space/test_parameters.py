from __future__ import annotations

import math
import random
from typing import Any

import pytest

from search.samplers.ehvi.candidates import all_trials
from search.samplers.optuna.study import distribution
from search.space.parameters import (
    PARAMETERS,
    Categorical,
    FloatRange,
    IntRange,
    Parameter,
    active,
    canonical_value,
    check_conditions,
    is_active,
    value_at,
)


def parameter(**fields: Any) -> Parameter:
    return PARAMETERS.parse(fields)


@pytest.mark.parametrize(
    ("fields", "inside", "outside"),
    [
        ({"kind": "float", "low": 0, "high": 1}, [0, 0.3, 1, 1.0], [-0.1, 1.1, "0.5", None, True]),
        ({"kind": "float", "low": 0.1, "high": 0.7, "step": 0.2}, [0.1, 0.3, 0.5, 0.7], [0.2, 0.9]),
        ({"kind": "int", "low": 1, "high": 7, "step": 3}, [1, 4, 7], [2, 10, 4.0, True]),
        ({"kind": "int", "low": 1, "high": 8, "log": True}, [1, 3, 8], [0, 9]),
        (
            {"kind": "categorical", "choices": ["8/255", 0, None, "init"]},
            ["8/255", 0, None, "init"],
            [8 / 255, False, 1, ""],
        ),
    ],
)
def test_contains_what_a_sampler_could_suggest(fields: dict[str, Any], inside: list[Any], outside: list[Any]) -> None:
    searched = parameter(**fields)
    assert [value for value in inside if not searched.contains(value)] == []
    assert [value for value in outside if searched.contains(value)] == []


@pytest.mark.parametrize(
    ("share", "parameter", "value"),
    [
        (0.0, FloatRange(low=2, high=6), 2.0),
        (0.5, FloatRange(low=2, high=6), 4.0),
        (0.5, FloatRange(low=1e-6, high=1e-2, log=True), 1e-4),
        (0.999, FloatRange(low=0, high=1, step=0.25), 1.0),
        (0.0, IntRange(low=3, high=5), 3),
        (0.99, IntRange(low=3, high=5), 5),
        (0.5, IntRange(low=3, high=5), 4),
        (0.9, IntRange(low=0, high=6, step=3), 6),
        (0.0, IntRange(low=1, high=100, log=True), 1),
        (0.999, IntRange(low=1, high=100, log=True), 100),
        (0.34, Categorical(choices=("a", None, 3)), None),
    ],
)
def test_shares_are_placed_in_parameters(share: float, parameter: Any, value: Any) -> None:
    found = value_at(share, parameter)
    assert found == pytest.approx(value) if isinstance(value, float) else found == value
    assert parameter.contains(found)
    domain = distribution(parameter)
    assert domain._contains(domain.to_internal_repr(found))


def test_a_value_of_a_grid_is_one_number_however_it_is_reached() -> None:
    grid = FloatRange(low=0.1, high=0.9, step=0.1)
    wanted = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert grid.spaced(0) == wanted
    assert [canonical_value(grid, 0.1 + at * 0.1) for at in range(9)] == wanted
    assert sorted({value_at(at / 50, grid) for at in range(51)}) == wanted
    found = all_trials({"a": grid}, 9)
    assert found is not None
    assert [params["a"] for params in found] == wanted
    # What lies beside the grid stays what it is.
    assert canonical_value(grid, 0.35) == 0.35


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "float", "low": 0, "high": 1},
        {"kind": "float", "low": 1e-6, "high": 1e-1, "log": True},
        {"kind": "float", "low": 0.1, "high": 0.7, "step": 0.2},
        {"kind": "int", "low": 1, "high": 7, "step": 3},
        {"kind": "int", "low": 1, "high": 8, "log": True},
        {"kind": "categorical", "choices": ["8/255", 0, None]},
    ],
)
def test_shares_are_values_of_the_parameter_and_reach_all_of_it(fields: dict[str, Any]) -> None:
    searched = parameter(**fields)
    draws = random.Random(0)
    found = [value_at(draws.random(), searched) for _ in range(400)]
    assert all(searched.contains(value) for value in found)
    if isinstance(searched, FloatRange) and searched.step is None:
        share = [(math.log(v / 1e-6) / math.log(1e5)) if searched.log else v for v in found]
        assert min(share) < 0.02
        assert max(share) > 0.98
        assert abs(sum(share) / 400 - 0.5) < 0.06
    else:
        assert len(set(found)) == {"float": 4, "int": 8 if searched.extremes().get("high") == 8 else 3}.get(
            searched.kind, 3
        )


def test_extremes_are_bounds_or_all_choices() -> None:
    assert parameter(kind="float", low=0, high=1).extremes() == {"low": 0, "high": 1}
    assert parameter(kind="int", low=3, high=3).extremes() == {"low": 3}
    assert parameter(kind="categorical", choices=["a", 1]).extremes() == {0: "a", 1: 1}


CHAIN = {
    "a": parameter(kind="categorical", choices=["x", "y"]),
    "b": parameter(kind="int", low=0, high=3, when={"a": "x"}),
    "c": parameter(kind="float", low=0, high=1, when={"b": [1, 2], "a": ["x", "y"]}),
}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"a": "y"}, {"a": "y"}),
        ({"a": "y", "b": 1, "c": 0.5}, {"a": "y"}),
        ({"a": "x", "b": 1, "c": 0.5}, {"a": "x", "b": 1, "c": 0.5}),
        ({"c": 0.5, "b": 3, "a": "x"}, {"a": "x", "b": 3}),
        ({"a": "x"}, None),
        ({"a": "x", "b": 1}, None),
        ({"a": "x", "b": 1, "c": 2.0}, None),
        ({"a": "z"}, None),
        ({}, None),
    ],
)
def test_active_keeps_what_conditions_leave_in_order(given: dict[str, Any], kept: dict[str, Any] | None) -> None:
    found = active(CHAIN, given)
    assert found == kept
    assert found is None or list(found) == [path for path in CHAIN if path in found]


def test_a_parameter_is_not_searched_while_its_condition_is_not_searched() -> None:
    assert is_active(CHAIN["c"], {"a": "x", "b": 2})
    assert not is_active(CHAIN["c"], {"a": "x"})


def test_sound_conditions_raise_nothing() -> None:
    assert list(check_conditions(CHAIN)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "categorical", "choices": [0.5, 0.75, 0.9]},
        {"kind": "int", "low": 1, "high": 9, "step": 2},
        {"kind": "float", "low": 0.1, "high": 0.9, "step": 0.2},
        {"kind": "float", "low": 0.1, "high": 0.9, "log": True},
    ],
)
def test_the_ends_of_a_parameter_are_its_first_and_last_value_and_those_beyond(fields: dict[str, Any]) -> None:
    found = parameter(**fields)
    first, *_, last = found.extremes().values()
    assert [value_at(share, found) for share in (0.0, -0.4, -7.0)] == pytest.approx([first] * 3)
    assert [value_at(share, found) for share in (1.0, 1.4, 8.0)] == pytest.approx([last] * 3)
