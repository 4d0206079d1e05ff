from __future__ import annotations

import re
from typing import Any

import pytest

from search.space.parameters import Categorical, FloatRange, IntRange, Parameter
from search.study.trials import TrialTemplate, put, rewind_epochs
from tests.search.studies import study
from trainables.core.errors import SpecError


def template(more: str = "") -> TrialTemplate:
    return study(more)._template()


def test_a_trial_without_parameters_is_that_of_the_study() -> None:
    spec = study("  epochs: 7\nseed: 3\n")
    data = spec._template().plain({})
    assert (data["model"]["kind"], data["recipe"]["kind"], data["recipe"]["epochs"]) == ("lenet300", "imp", 7)
    assert (data["data"], data["protocol"], data["seed"]) == (spec.data, spec.protocol, 3)
    assert (data["plugins"], data["snapshots"]) == ((), ())


def test_values_are_set_below_model_and_recipe() -> None:
    data = template().plain({"recipe.train.eps": "8/255", "recipe.epochs": 5, "model.normalise": False})
    assert data["recipe"]["train"]["eps"] == "8/255"
    assert data["recipe"]["epochs"] == 5
    assert data["model"]["normalise"] is False


def test_parameters_do_not_change_the_template() -> None:
    made = template()
    before = made.plain({})
    made.plain({"recipe.train.eps": 0.05, "recipe.train.loss.kind": "trades"})
    assert made.plain({}) == before


@pytest.mark.parametrize("reverse", [False, True])
def test_a_kind_is_set_before_the_fields_of_that_kind(reverse: bool) -> None:
    params = {"recipe.train.loss.beta": 3.0, "recipe.train.loss.kind": "trades"}
    items = list(params.items())[:: -1 if reverse else 1]
    assert template().plain(dict(items))["recipe"]["train"]["loss"] == {"kind": "trades", "beta": 3.0}


def test_another_kind_drops_the_fields_of_the_kind_before() -> None:
    made = template("  train: {loss: {kind: trades, beta: 3}}\n")
    assert made.plain({"recipe.train.loss.kind": "trades"})["recipe"]["train"]["loss"] == {"kind": "trades", "beta": 3}
    assert made.plain({"recipe.train.loss.kind": "madry"})["recipe"]["train"]["loss"] == {"kind": "madry"}


def test_another_recipe_keeps_the_fields_that_all_recipes_have() -> None:
    recipe = template("  rate: 0.4\n  epochs: 7\n").plain({"recipe.kind": "three_stage"})["recipe"]
    assert (recipe["kind"], recipe["epochs"]) == ("three_stage", 7)
    assert "rate" not in recipe


def test_a_path_through_a_number_is_refused() -> None:
    with pytest.raises(SpecError, match=re.escape("recipe.epochs.low: recipe.epochs is 30, which has no 'low'")):
        template().plain({"recipe.epochs.low": 1})


@pytest.mark.parametrize(
    ("parameter", "epochs"),
    [
        (None, ()),
        (IntRange(low=2, high=5), (2, 3, 4, 5)),
        (IntRange(low=0, high=6, step=3), (0, 3, 6)),
        (Categorical(choices=("init", 7, 3, True)), (3, 7)),
        (Categorical(choices=("init", "dense_trained")), ()),
        (FloatRange(low=1, high=2), ()),
    ],
)
def test_rewind_epochs_are_those_of_the_space(parameter: Parameter | None, epochs: tuple[int, ...]) -> None:
    assert rewind_epochs({} if parameter is None else {"recipe.rewind": parameter}) == epochs


@pytest.mark.parametrize(
    ("data", "resolved", "wanted"),
    [
        ({}, None, {"a": {"b": 1}}),
        ({"a": None}, None, {"a": {"b": 1}}),
        ({"a": {"c": 2}}, None, {"a": {"c": 2, "b": 1}}),
        ({"a": "x"}, None, {"a": {"kind": "x", "b": 1}}),
        ({}, {"a": {"kind": "x", "c": 2}}, {"a": {"kind": "x", "c": 2, "b": 1}}),
        ({"a": "x"}, {"a": {"kind": "x", "c": 2}}, {"a": {"kind": "x", "c": 2, "b": 1}}),
        ({"a": {"d": 3}}, {"a": {"kind": "x", "c": 2}}, {"a": {"d": 3, "b": 1}}),
    ],
)
def test_put_creates_the_mappings_of_a_path(data: dict[str, Any], resolved: Any, wanted: dict[str, Any]) -> None:
    put(data, ["a", "b"], 1, resolved)
    assert data == wanted


def test_put_leaves_the_resolved_data_as_they_are() -> None:
    resolved = {"a": {"b": {"c": 2}}}
    data: dict[str, Any] = {}
    put(data, ["a", "b", "c"], 1, resolved)
    assert (data, resolved) == ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}})


def test_put_refuses_a_path_through_a_value_without_fields() -> None:
    with pytest.raises(SpecError, match=re.escape("a.b.c: a.b is 3, which has no 'c'")):
        put({"a": {"b": 3}}, ["a", "b", "c"], 1)
