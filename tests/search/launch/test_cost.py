from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.launch.cost import Forecasts, params_measured
from search.launch.driver import Driver
from search.samplers.base import Forecast, SamplerContext, alone
from search.samplers.ehvi.sampler import Ehvi
from search.space.parameters import active
from search.store.records import Records
from search.study.spec import StudySpec
from tests.search import factories
from tests.search.studies import study
from trainables.core.errors import SpecError
from trainables.method.phases import Measure, Train
from trainables.recipes.trial import keyed_phases
from trainables.store.records import TrialRecord
from trainables.store.storage import Storage

LADDER = study(
    "  rate: 0.5\n  epochs: 10\n  round_epochs: 4\n"
    "space:\n"
    "  recipe.sparsity: {kind: float, low: 0.3, high: 0.98}\n"
    "  recipe.rewind: {kind: categorical, choices: [init, 3, none]}\n"
    "  recipe.train.eps: {kind: categorical, choices: [0, 0.05]}\n"
)
ONE_SHOT = factories.study_spec(constraints={})


def params(sparsity: float = 0.8, rewind: Any = "init", eps: float = 0) -> dict[str, Any]:
    return {"recipe.sparsity": sparsity, "recipe.rewind": rewind, "recipe.train.eps": eps}


def issued(spec: StudySpec, number: int, values: dict[str, Any]) -> TrialRecord:
    return factories.trial(number, spec, params=values)


def brute_force(spec: StudySpec, known: set[str], values: dict[str, Any]) -> Forecast:
    """Hash every phase, look each up, add up the epochs."""
    points, epochs, found, trained = [], [], [], 0
    for step in keyed_phases(spec.trial(values), factories.DATA_HASH):
        if isinstance(step.phase, Train) and step.key not in known:
            trained += step.phase.epochs - step.phase.start
        if isinstance(step.phase, Measure):
            here = {f"recipe.{name}": value for name, value in step.phase.stands_for.items()}
            point = {path: here.get(path, value) for path, value in values.items()}
            if active(spec.space, point) == point:
                points.append(point)
                epochs.append(trained)
                found.append(step.key in known)
    return Forecast(tuple(points), tuple(epochs), tuple(found))


def test_a_first_trial_pays_for_everything() -> None:
    found = Forecasts(LADDER, factories.DATA_HASH).of(params(0.8))
    # The dense network after 10 epochs is not a trial of this space.
    assert [point["recipe.sparsity"] for point in found.points] == [0.5, 0.75, 0.8]
    assert found.epochs == (14, 18, 22)
    assert found.known == (False, False, False)


def test_epochs_that_train_nothing_are_paid_for_alike() -> None:
    weights = {"kind": "categorical", "choices": ["found", "random"]}
    recipe = {"kind": "shi2022", "epochs": 5, "search_epochs": 20, "sparsity": 0.5}
    spec = factories.study_spec(recipe=recipe, space={"recipe.weights": weights}, constraints={})
    forecasts = Forecasts(spec, factories.DATA_HASH)
    assert forecasts.of({"recipe.weights": "found"}).epochs == (25,)
    forecasts.issue(issued(spec, 0, {"recipe.weights": "found"}))
    assert forecasts.of({"recipe.weights": "random"}).epochs == (5,)


def test_what_was_issued_costs_nothing_again_and_a_chain_is_continued() -> None:
    forecasts = Forecasts(LADDER, factories.DATA_HASH)
    forecasts.issue(issued(LADDER, 0, params(0.75)))
    assert forecasts.of(params(0.75)).epochs == (0, 0)
    assert all(forecasts.of(params(0.75)).known)
    longer = forecasts.of(params(0.9))
    assert (longer.epochs, longer.known) == ((0, 0, 4, 8), (True, True, False, False))
    assert forecasts.of(params(0.9, rewind="none")).epochs == (4, 8, 12, 16)
    assert forecasts.of(params(0.9, eps=0.05)).epochs == (14, 18, 22, 26)


def test_a_point_may_be_new_where_no_epoch_is() -> None:
    spec = factories.study_spec(
        recipe={"kind": "three_stage", "epochs": 10, "finetune_epochs": 0},
        space={"recipe.sparsity": {"kind": "float", "low": 0.1, "high": 0.9}},
    )
    forecasts = Forecasts(spec, factories.DATA_HASH)
    forecasts.issue(issued(spec, 0, {"recipe.sparsity": 0.5}))
    found = forecasts.of({"recipe.sparsity": 0.6})
    assert (found.epochs, found.known) == ((0,), (False,))


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_a_trial_that_broke_off_left_what_it_measured(state: str) -> None:
    forecasts = Forecasts(LADDER, factories.DATA_HASH)
    record = issued(LADDER, 0, params(0.8))
    chain = keyed_phases(LADDER.trial(record.params), factories.DATA_HASH)
    measured = [step.key for step in chain if isinstance(step.phase, Measure)]
    forecasts.issue(record)
    points = [factories.point(at).model_copy(update={"key": key}) for at, key in enumerate(measured[:2])]
    failure = factories.failure() if state == "failed" else None
    forecasts.end(record, factories.outcome(0, points, state=state, failure=failure))
    assert forecasts.of(params(0.8)).epochs == (0, 4, 8)
    assert forecasts.of(params(0.8)).known == (True, False, False)


def test_stages_that_another_trial_shares_stay_forecast_when_one_fails() -> None:
    forecasts = Forecasts(LADDER, factories.DATA_HASH)
    records = [issued(LADDER, number, params(0.8)) for number in range(2)]
    for record in records:
        forecasts.issue(record)
    forecasts.end(records[0], factories.outcome(0, [], failure=factories.failure()))
    assert forecasts.of(params(0.8)).epochs == (0, 0, 0)
    forecasts.end(records[1], factories.outcome(1, [], failure=factories.failure()))
    assert forecasts.of(params(0.8)).epochs == (14, 18, 22)


SPARSITIES = st.sampled_from([0.3, 0.5, 0.6, 0.75, 0.8, 0.9]) | st.floats(0.3, 0.98)
VALUES = st.builds(params, SPARSITIES, st.sampled_from(["init", 3, "none"]), st.sampled_from([0, 0.05]))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, max_size=6), st.lists(VALUES, min_size=1, max_size=6))
def test_forecasts_equal_those_of_hashing_everything(before: list[Any], asked: list[Any]) -> None:
    forecasts = Forecasts(LADDER, factories.DATA_HASH)
    known: set[str] = set()
    for number, values in enumerate(before):
        forecasts.of(asked[0])
        record = issued(LADDER, number, values)
        forecasts.issue(record)
        known.update(record.keys)
    for values in asked:
        assert forecasts.of(values) == brute_force(LADDER, known, values)


def test_one_shot_trials_with_conditions_are_expected_as_they_are() -> None:
    forecasts = Forecasts(ONE_SHOT, factories.DATA_HASH)
    known: set[str] = set()
    for number in range(12):
        values = factories.params(number)
        assert forecasts.of(values) == brute_force(ONE_SHOT, known, values)
        record = issued(ONE_SHOT, number, values)
        forecasts.issue(record)
        known.update(record.keys)
        assert forecasts.of(values) == brute_force(ONE_SHOT, known, values)


@pytest.mark.slow
def test_much_asking_forgets_nothing_that_matters() -> None:
    forecasts = Forecasts(ONE_SHOT, factories.DATA_HASH)
    record = issued(ONE_SHOT, 0, factories.params(0))
    forecasts.issue(record)
    draw = random.Random(0)
    for _ in range(5000):
        forecasts.of({**factories.params(0), "recipe.train.eps": draw.uniform(0.02, 0.2)})
    assert forecasts.of(record.params).epochs == (0,)


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(SpecError, match="no trial can have"):
        Forecasts(LADDER, factories.DATA_HASH).of(params(rewind=99))


def test_a_driver_gives_its_sampler_forecasts_of_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[SamplerContext] = []
    suggest = Ehvi.suggest
    monkeypatch.setattr(Ehvi, "suggest", lambda self, context: (contexts.append(context), suggest(self, context))[1])
    spec = factories.study_spec(name="context")
    driver = Driver(Records.create(Storage(str(tmp_path)), spec, factories.FINGERPRINT))
    first, second = driver.next(), driver.next()
    assert first is not None
    assert second is not None
    found = [(context.number, context.seed, context.problem) for context in contexts]
    assert found == [(0, 0, spec.problem()), (1, 0, spec.problem())]
    assert contexts[-1].forecast(first.params).epochs == (0,)
    again = Driver(Records.open(Storage(str(tmp_path))))
    assert again._forecasts.of(second.params) == driver._forecasts.of(second.params)


def test_without_knowledge_a_trial_is_one_new_point() -> None:
    assert alone({"a": 1}) == Forecast(({"a": 1},), (1,), (False,))


INHERITING = study(
    "space:\n"
    "  recipe.small: {kind: categorical, choices: [global, layerwise]}\n"
    "  recipe.large: {kind: categorical, choices: [none, inherit]}\n"
    "  recipe.rest: {kind: categorical, choices: [zero, random], when: {recipe.large: inherit}}\n",
    "recipe={kind: wang2020, sparsity: 0.9}",
)


def test_a_point_on_the_way_is_observed_without_parameters_of_what_follows_it() -> None:
    params = {"recipe.small": "global", "recipe.large": "inherit", "recipe.rest": "zero"}
    dense, small = {"sparsity": 0.0}, {"sparsity": 0.9, "rounds": 1, "large": "none"}
    fixed = {"sparsity": 0.9, "rounds": 1}.get
    assert params_measured(INHERITING.space, params, {}, fixed) == params
    assert params_measured(INHERITING.space, params, small, fixed) == {"recipe.small": "global", "recipe.large": "none"}
    assert params_measured(INHERITING.space, params, dense, fixed) is None
    assert params_measured(INHERITING.space, params, {**small, "rounds": 2}, fixed) is None


def test_a_trial_is_expected_to_measure_its_observations() -> None:
    found = Forecasts(INHERITING, factories.DATA_HASH).of(
        {"recipe.small": "global", "recipe.large": "inherit", "recipe.rest": "zero"}
    )
    assert [len(point) for point in found.points] == [2, 3]
    assert found.epochs == (45, 75)
