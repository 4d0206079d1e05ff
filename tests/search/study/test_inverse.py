from __future__ import annotations

from typing import Any

from search.study.inverse import completed, params_of
from tests.search import factories
from tests.search.studies import study
from trainables.core.spec import plain

SPACE = """\
space:
  recipe.sparsity: {kind: float, low: 0.3, high: 0.95}
  recipe.train.eps: {kind: categorical, choices: [0, 8/255, 0.1]}
  recipe.train.loss: {kind: categorical, choices: [madry, trades]}
  recipe.train.loss.beta: {kind: float, low: 1, high: 6, when: {recipe.train.loss: trades}}
"""

TRADES = {
    "recipe.sparsity": 0.5,
    "recipe.train.eps": "8/255",
    "recipe.train.loss": "trades",
    "recipe.train.loss.beta": 2.0,
}


def matched(space: dict[str, Any], params: dict[str, Any], given: dict[str, Any] | None = None) -> Any:
    theirs = factories.study_spec(space={}, constraints={})
    ours = factories.study_spec(space=space, constraints={})
    return params_of(ours, plain(theirs.trial(params)), given or {})


def test_parameters_are_found_in_a_trial_in_any_notation() -> None:
    space = {
        "recipe.train.loss": {"kind": "categorical", "choices": ["madry", "trades"]},
        "recipe.train.loss.beta": {"kind": "float", "low": 1, "high": 8, "when": {"recipe.train.loss": "trades"}},
        "recipe.train.eps": {"kind": "categorical", "choices": ["8/255", 0.1]},
        "recipe.train.regularisers.l1": {"kind": "float", "low": 1e-6, "high": 1e-4},
        "recipe.epochs": {"kind": "int", "low": 5, "high": 20},
    }
    params = {
        "recipe.train.loss": "trades",
        "recipe.train.loss.beta": 3.0,
        "recipe.train.eps": 8 / 255,
        "recipe.train.regularisers.l1": 1e-5,
        "recipe.epochs": 10,
    }
    assert matched(space, params) == {**params, "recipe.train.eps": "8/255"}
    assert matched(space, {**params, "recipe.epochs": 21}) is None
    madry = {path: value for path, value in params.items() if "loss" not in path} | {"recipe.train.loss": "madry"}
    assert matched(space, madry) == {
        "recipe.train.loss": "madry",
        "recipe.train.eps": "8/255",
        "recipe.train.regularisers.l1": 1e-5,
        "recipe.epochs": 10,
    }


def test_what_differs_outside_of_the_space_makes_another_network() -> None:
    space = {"recipe.epochs": {"kind": "int", "low": 5, "high": 20}}
    assert matched(space, {"recipe.epochs": 7}) == {"recipe.epochs": 7}
    assert matched(space, {"recipe.epochs": 7, "recipe.finetune_epochs": 6}) is None
    assert matched(space, {"recipe.epochs": 7, "model.normalise": False}) is None
    assert matched({}, {}) == {}


def test_given_parameters_come_before_the_fields_of_the_trial() -> None:
    spec = study(SPACE)
    trial = plain(spec.trial(TRADES | {"recipe.train.eps": 0}))
    assert params_of(spec, trial, {"recipe.train.eps": 0.0}) == TRADES | {"recipe.train.eps": 0}
    # A given value that makes another network finds nothing; one outside of the space leaves it to the trial.
    assert params_of(spec, trial, {"recipe.sparsity": 0.6}) is None
    assert params_of(spec, trial, {"recipe.sparsity": 0.1}) == TRADES | {"recipe.train.eps": 0}


def test_no_parameters_give_a_trial_that_is_invalid_or_lacks_a_field() -> None:
    spec = study(SPACE)
    trial = plain(spec.trial(TRADES))
    assert params_of(spec, trial, {}) == TRADES
    assert params_of(spec, {**trial, "recipe": {**trial["recipe"], "epochs": "many"}}, {}) is None
    assert params_of(spec, {**trial, "recipe": "imp"}, {}) is None
    assert params_of(spec, {}, {}) is None


def test_data_and_protocol_do_not_matter() -> None:
    other = study(SPACE, "seed=1", "protocol.eps=4/255")
    assert params_of(study(SPACE), plain(other.trial(TRADES)), {}) == TRADES


def test_parameters_of_the_space_are_complete() -> None:
    assert completed(study(SPACE), TRADES) == TRADES


def test_parameters_are_completed_by_those_that_the_space_has_got_since() -> None:
    before = {path: value for path, value in TRADES.items() if path != "recipe.train.eps"}
    fixed = study("  train: {eps: 8/255}\n" + SPACE)
    assert completed(fixed, before) == TRADES
    assert list(completed(fixed, before) or {}) == list(TRADES), "in the order of the space"


def test_parameters_that_the_space_excludes_are_not_completed() -> None:
    spec = study(SPACE)
    assert completed(spec, TRADES | {"recipe.sparsity": 0.2}) is None
    assert completed(spec, TRADES | {"recipe.epochs": 7}) is None
    assert completed(spec, TRADES | {"recipe.no_such_field": 1}) is None
    assert completed(study("  train: {eps: 0.05}\n" + SPACE), {"recipe.sparsity": 0.5}) is None
