from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.objectives.values import feasible, target_violations, trusted, valid, values, violations
from search.study.spec import StudySpec
from tests.search.studies import study

WHOLE = {
    "robust_accuracy": 0.5,
    "clean_accuracy": 0.75,
    "sparsity": 0.9,
    "nonzero": 100,
    "prunable": 1000,
    "macs_effective": 30,
    "macs_dense": 120,
    "status": "ok",
}


def spec(objectives: str = "", constraints: str = "") -> StudySpec:
    lines = [f"{name}: {text}\n" for name, text in (("objectives", objectives), ("constraints", constraints)) if text]
    return study("".join(lines))


def test_values_are_shares_that_are_better_when_larger_in_declared_order() -> None:
    asked = spec("{nonzero: minimise, robust_accuracy: maximise, macs_effective: minimise, sparsity: maximise}")
    assert values(WHOLE, asked) == [1 - 0.1, 0.5, 1 - 0.25, 0.9]


def test_default_objectives_are_robust_accuracy_and_sparsity() -> None:
    assert values(WHOLE, spec()) == [0.5, 0.9]


BAD = [None, math.nan, math.inf, -math.inf, "0.5", True, 1.7, -0.1, [0.5], object()]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("measure", ["robust_accuracy", "clean_accuracy", "sparsity"])
def test_points_with_a_broken_measure_are_not_valid(measure: str, bad: Any) -> None:
    point = {**WHOLE, measure: bad}
    assert valid(WHOLE, spec())
    assert not valid(point)
    assert not valid({name: value for name, value in WHOLE.items() if name != measure})
    if measure in spec().objectives:
        with pytest.raises(ValueError, match=measure):
            values(point, spec())


@pytest.mark.parametrize(
    ("status", "flags", "is_valid", "is_trusted"),
    [
        ("ok", (), True, True),
        ("warn", ("dead_layer", "at_chance"), True, True),
        ("warn", ("softmax_output",), True, False),
        ("warn", ("of_a_newer_version",), True, True),
        ("invalid", ("black_box_stronger",), False, False),
        ("warn", ("random_noise_stronger",), True, False),
    ],
)
def test_nothing_is_learned_from_a_point_whose_flags_question_it(
    status: str, flags: tuple[str, ...], is_valid: bool, is_trusted: bool
) -> None:
    point = {**WHOLE, "status": status, "flags": flags}
    assert (valid(point, spec()), trusted(point, spec())) == (is_valid, is_trusted)


def test_a_tensor_is_no_number() -> None:
    torch = pytest.importorskip("torch")
    assert not valid({**WHOLE, "sparsity": torch.tensor(0.5)})


@pytest.mark.parametrize("bad", [None, math.nan, -1, 121, "3"])
def test_counts_matter_only_where_they_are_asked_for(bad: Any) -> None:
    point = {**WHOLE, "macs_effective": bad}
    assert valid(point)
    assert valid(point, spec())
    assert not valid(point, spec("{macs_effective: minimise}"))
    assert not valid(point, spec("", "{macs_effective: '<= 100'}"))
    assert violations(point, spec("", "{macs_effective: '<= 100'}")) == [1.0]


def test_a_point_that_the_evaluation_calls_invalid_is_not_valid() -> None:
    assert not valid({**WHOLE, "status": "invalid"})
    assert valid({**WHOLE, "status": "warn"})


def test_violations_are_shares_in_declared_order() -> None:
    asked = spec("", "{nonzero: '<= 50', clean_accuracy: '>= 0.8', robust_accuracy: '>= 0.5', sparsity: '<= 0.95'}")
    assert violations(WHOLE, asked) == pytest.approx([0.05, 0.05, 0.0, -0.05])
    assert not feasible(WHOLE, asked)
    assert feasible(WHOLE, spec())


def test_a_constraint_met_exactly_is_met() -> None:
    assert feasible({**WHOLE, "clean_accuracy": 0.9}, spec("", "{clean_accuracy: '>= 0.9'}"))
    assert feasible({**WHOLE, "clean_accuracy": 0.9}, spec("", "{clean_accuracy: '<= 0.9'}"))
    assert not feasible({**WHOLE, "clean_accuracy": math.nextafter(0.9, 0)}, spec("", "{clean_accuracy: '>= 0.9'}"))


FOUR = spec("{nonzero: minimise, robust_accuracy: maximise, macs_effective: minimise, sparsity: maximise}")
fractions = st.floats(0, 1)


@given(fractions, fractions, fractions, st.integers(0, 1000), st.integers(0, 120))
def test_valid_points_lie_in_the_unit_cube(
    robust: float, clean: float, sparsity: float, nonzero: int, macs: int
) -> None:
    measured = {"robust_accuracy": robust, "clean_accuracy": clean, "sparsity": sparsity}
    point = {**WHOLE, **measured, "nonzero": nonzero, "macs_effective": macs}
    assert valid(point, FOUR)
    found = values(point, FOUR)
    assert all(0 <= value <= 1 for value in found)
    better = {**point, "nonzero": max(0, nonzero - 1), "robust_accuracy": min(1.0, robust + 0.1)}
    assert all(new >= old for new, old in zip(values(better, FOUR), found, strict=True))


def test_a_target_is_no_constraint() -> None:
    aimed = study("constraints: {clean_accuracy: '>= 0.5'}\ntarget: {robust_accuracy: '>= 0.75'}\n")
    assert target_violations(WHOLE, aimed) == [0.25]
    assert violations(WHOLE, aimed) == [-0.25]
    assert feasible(WHOLE, aimed)
    assert list(aimed.bounds()) == ["clean_accuracy", "target.robust_accuracy"]
