from __future__ import annotations

import re

import pytest

from search.study.space_check import MAX_CORNERS, corner_trials
from tests.search.studies import study
from trainables.core.errors import SpecError
from trainables.losses.cross_entropy import Madry
from trainables.losses.trades import Trades
from trainables.pruning import Pruning
from trainables.recipes.three_stage import ThreeStage

REFUSED_SPACES = {
    "low above high": ("recipe.sparsity: {kind: float, low: 0.9, high: 0.1}", r"sparsity.low: 0.9 exceeds high, 0.1"),
    "log from 0": ("recipe.rate: {kind: float, low: 0, high: 0.5, log: true}", r"rate.low: a logarithmic range cannot"),
    "log with step": ("recipe.epochs: {kind: int, low: 1, high: 9, log: true, step: 2}", r"epochs.step: .*no step"),
    "step 0": ("recipe.rate: {kind: float, low: 0.1, high: 0.5, step: 0}", r"rate.step: 0 is not allowed"),
    "uneven step": ("recipe.rate: {kind: float, low: 0.1, high: 0.5, step: 0.3}", r"rate.high: .*last step is 0.4"),
    "empty categorical": ("recipe.rewind: {kind: categorical, choices: []}", r"rewind.choices: at least 1 required"),
    "choices of lists": (
        "recipe.rewind: {kind: categorical, choices: [[4], [8, 8]]}",
        r"rewind.choices\[1\]: [^\n]*\Z",
    ),
    "equal choices": ("recipe.rewind: {kind: categorical, choices: [1, true]}", r"rewind.choices\[1\]: True equals an"),
    "unknown kind": (
        "recipe.rate: {kind: flaot, low: 0, high: 1}",
        r"unknown parameter 'flaot'; .*did you mean 'float'",
    ),
    "missing bound": ("recipe.rate: {kind: float, low: 0.1}", r"rate.high: this key is required"),
    "unknown field": ("recipe.sparsty: {kind: float, low: 0, high: 0.5}", r"sparsty: unknown key; did you mean 'spars"),
    "field of another kind": (
        "recipe.train.loss.beta: {kind: int, low: 1, high: 2}",
        r"beta: unknown key \(allowed:",
    ),
    "through a value": ("recipe.epochs.x: {kind: int, low: 1, high: 2}", r"recipe.epochs is 30, which has no 'x'"),
    "protocol": ("protocol.eps: {kind: float, low: 0, high: 1}", r"cannot be searched: .*fixed for a study"),
    "no path": ("recipe.: {kind: float, low: 0, high: 1}", r"'recipe.' cannot be searched"),
    "percentage": (
        "recipe.sparsity: {kind: float, low: 0, high: 95}",
        r"my.yaml:7:\d+ .*sparsity.high: 95 .*mean 0.95",
    ),
    "forgotten /255": (
        "recipe.train.eps: {kind: categorical, choices: [8/255, 8]}",
        r"my.yaml:7:58 space.recipe.train.eps.choices\[1\]: .*did you mean 8/255\?",
    ),
    "negative weight": (
        "recipe.train.regularisers.l1: {kind: categorical, choices: [0, -1]}",
        r"my.yaml:7:66 .*choices\[1\]: -1 is not allowed",
    ),
    "rewind beyond training": (
        "recipe.rewind: {kind: int, low: 0, high: 30}",
        r"my.yaml:7:\d+ .*rewind.high: rewind epoch 30",
    ),
    "condition on nothing": (
        "recipe.rate: {kind: float, low: 0.1, high: 0.2, when: {recipe.rewnd: 1}}",
        r"'recipe.rewnd' is not a parameter of this space",
    ),
    "condition on itself": (
        "recipe.rate: {kind: float, low: 0.1, high: 0.2, when: {recipe.rate: 0.1}}",
        r"cannot depend on itself",
    ),
}


@pytest.mark.parametrize("case", REFUSED_SPACES)
def test_impossible_spaces_are_refused_at_their_line(case: str) -> None:
    text, message = REFUSED_SPACES[case]
    with pytest.raises(SpecError) as caught:
        study(f"space:\n  {text}\n")
    assert re.search(message, str(caught.value)), str(caught.value)
    assert str(caught.value).startswith("my.yaml:7:")


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{recipe.epochs: 5}", r"when.recipe.epochs: 'recipe.epochs' must stand before 'recipe.rate'"),
        ("{recipe.rewind: [init, inti]}", r"when.recipe.rewind: 'recipe.rewind' is never 'inti'"),
        ("{recipe.train.eps: 0.1}", r"'recipe.train.eps' is a real number"),
        ("{recipe.rewind: []}", r"when.recipe.rewind: at least 1 required"),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(condition: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        study(
            "space:\n  recipe.rewind: {kind: categorical, choices: [init, 3]}\n"
            "  recipe.train.eps: {kind: float, low: 0, high: 8/255}\n"
            f"  recipe.rate: {{kind: float, low: 0.1, high: 0.2, when: {condition}}}\n"
            "  recipe.epochs: {kind: int, low: 4, high: 5}\n"
        )


def test_values_that_are_impossible_only_together_are_found() -> None:
    with pytest.raises(SpecError, match=r"my.yaml:7:\d+ space.recipe.rewind.high: rewind epoch 10 .* of 10 epochs"):
        study(
            "space:\n  recipe.rewind: {kind: int, low: 0, high: 10}\n  recipe.epochs: {kind: int, low: 10, high: 20}\n"
        )
    # The same bounds are fine where the condition keeps them apart.
    study(
        "space:\n  recipe.epochs: {kind: categorical, choices: [10, 20]}\n"
        "  recipe.rewind: {kind: int, low: 0, high: 15, when: {recipe.epochs: 20}}\n"
    )


def test_many_corners_are_sampled() -> None:
    names = ["recipe.sparsity", "recipe.train.label_smoothing", "recipe.train.ema", "recipe.rate", "recipe.train.eps"]
    axes = "".join(f"  {name}: {{kind: categorical, choices: [0.1, 0.2, 0.3, 0.4]}}\n" for name in names)
    spec = study(f"space:\n{axes}")
    assert 4 ** len(spec.space) > MAX_CORNERS


KINDS = """\
  rate: 0.4
  rewind: dense_trained
  epochs: 7
  prune: {scope: layerwise}
  train: {loss: {kind: trades, beta: 3}, optimiser: {kind: adam, lr: 0.1}}
space:
  recipe.rate: {kind: float, low: 0.1, high: 0.3, when: {}}
  recipe.kind: {kind: categorical, choices: [imp, three_stage]}
"""


def test_a_searched_recipe_has_its_own_fields_and_those_of_all_recipes() -> None:
    more = KINDS.replace("  recipe.rate: {kind: float, low: 0.1, high: 0.3, when: {}}\n", "")
    spec = study(
        more + "  recipe.rate: {kind: float, low: 0.1, high: 0.3, when: {recipe.kind: imp}}\n"
        "  recipe.finetune_epochs: {kind: categorical, choices: [2], when: {recipe.kind: three_stage}}\n"
    )
    ladder = spec.trial({"recipe.kind": "imp", "recipe.rate": 0.2}).recipe
    assert ladder == spec.recipe.model_copy(update={"rate": 0.2})
    once = spec.trial({"recipe.kind": "three_stage", "recipe.finetune_epochs": 2}).recipe
    assert isinstance(once, ThreeStage)
    assert (once.epochs, once.finetune_epochs, once.train) == (7, 2, spec.recipe.train)
    assert once.prune == Pruning()


def test_a_kind_that_does_not_exist_is_refused_where_it_is_written() -> None:
    misspelt = KINDS.replace("three_stage", "threestage")
    with pytest.raises(SpecError, match=r"recipe.kind.choices\[1\]: unknown recipe 'threestage'; .*mean 'three_stage'"):
        study(misspelt + "  recipe.finetune_epochs: {kind: int, low: 1, high: 2, when: {recipe.kind: three_stage}}\n")
    text = "space:\n  model.kind: {kind: categorical, choices: [lenet300, resnet7]}\n"
    with pytest.raises(SpecError, match=r"model.kind.choices\[1\]: unknown model 'resnet7'"):
        study(text)


def test_trials_at_the_corner_points_have_every_extreme() -> None:
    spec = study(
        "space:\n  recipe.epochs: {kind: categorical, choices: [10, 20]}\n"
        "  recipe.rewind: {kind: int, low: 0, high: 15, when: {recipe.epochs: 20}}\n"
    )
    found = {(trial.recipe.epochs, trial.recipe.rewind) for trial in corner_trials(spec.space, spec.trial)}
    assert found == {(10, spec.recipe.rewind), (20, 0), (20, 15)}
    assert [trial.recipe for trial in corner_trials(study("").space, study("").trial)] == [study("").recipe]


def test_a_searched_kind_inside_of_a_recipe_leaves_nothing_of_the_other() -> None:
    spec = study(
        "  train: {loss: {kind: trades, beta: 3}}\nspace:\n"
        "  recipe.train.loss.kind: {kind: categorical, choices: [madry, trades]}\n"
        "  recipe.train.loss.beta: {kind: float, low: 1, high: 2, when: {recipe.train.loss.kind: trades}}\n"
    )
    assert spec.trial({"recipe.train.loss.kind": "madry"}).recipe.train.loss == Madry()
    trades = spec.trial({"recipe.train.loss.kind": "trades", "recipe.train.loss.beta": 1.5})
    assert trades.recipe.train.loss == Trades(beta=1.5)


def test_a_field_that_only_some_searched_recipes_have_needs_a_condition() -> None:
    with pytest.raises(SpecError, match=r"recipe.rate.low: unknown key"):
        study(KINDS)
