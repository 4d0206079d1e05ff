from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.samplers.ehvi.candidates import all_trials, at_sparsities, near
from search.samplers.ehvi.features import Encoder
from search.samplers.sobol import sobol_trials
from search.space.parameters import Categorical, FloatRange, active, identity
from tests.search.studies import study

SPACE = study(
    "space:\n"
    "  recipe.sparsity: {kind: float, low: 0.1, high: 0.98}\n"
    "  recipe.rewind: {kind: categorical, choices: [init, 2, dense_trained]}\n"
    "  recipe.train.eps: {kind: categorical, choices: [0, 0.05, 8/255]}\n"
    "  recipe.train.loss: {kind: categorical, choices: [madry, trades]}\n"
    "  recipe.train.loss.beta: {kind: float, low: 1, high: 6, step: 0.5, when: {recipe.train.loss: trades}}\n"
    "  recipe.train.regularisers.l1: {kind: float, low: 1e-6, high: 1e-4, log: true}\n"
    "  recipe.round_epochs: {kind: int, low: 2, high: 20, log: true}\n"
    "  recipe.epochs: {kind: int, low: 10, high: 30, step: 10}\n"
).space


def test_candidates_lie_in_the_space_and_repeat_with_their_seed() -> None:
    found = sobol_trials(SPACE, 64, seed=1)
    again = np.random.default_rng(2)
    around = near(SPACE, found[3], np.random.default_rng(2), 64)
    assert around == near(SPACE, found[3], again, 64)
    assert found == sobol_trials(SPACE, 64, seed=1) != sobol_trials(SPACE, 64, seed=2)
    ends = at_sparsities(SPACE, found[3], (0.0, 0.5, 1.0))
    for params in (*found, *around, *ends):
        assert active(SPACE, params) == params
        assert list(params) == [path for path in SPACE if path in params]
    # Exactly: a sparsity beside the bound would be another training of the same network.
    assert [ends[0]["recipe.sparsity"], ends[2]["recipe.sparsity"]] == [0.1, 0.98]
    # Half of the way in what is left, as a logarithm.
    assert ends[1]["recipe.sparsity"] == pytest.approx(1 - (0.9 * 0.02) ** 0.5)


def test_sparsities_on_a_grid_and_of_choices_are_reached_from_end_to_end() -> None:
    shares = (0.0, 0.5, 1.0)
    choices = Categorical(choices=(0.9, 0.0, 0.5))
    grid = FloatRange(low=0.5, high=0.9, step=0.1)
    fixed = FloatRange(low=0.5, high=0.5)
    for parameter, expected in ((choices, [0.0, 0.5, 0.9]), (grid, [0.5, 0.8, 0.9]), (fixed, [0.5] * 3)):
        found = at_sparsities({"recipe.sparsity": parameter}, {"recipe.sparsity": 0.5}, shares)
        assert [params["recipe.sparsity"] for params in found] == pytest.approx(expected)
        assert all(parameter.contains(params["recipe.sparsity"]) for params in found)
    assert at_sparsities({}, {}, shares) == []


def test_neighbours_at_a_bound_have_its_value() -> None:
    space = {"recipe.sparsity": SPACE["recipe.sparsity"]}
    found = near(space, {"recipe.sparsity": 0.97}, np.random.default_rng(0), 64)
    sparsities = {params["recipe.sparsity"] for params in found}
    assert 0.98 in sparsities
    assert not [value for value in sparsities if 0 < 0.98 - value < 1e-6]


def test_a_sobol_sequence_can_start_anywhere_in_the_sequence() -> None:
    whole = sobol_trials(SPACE, 16, seed=3)
    assert [params for start in range(16) for params in sobol_trials(SPACE, 1, 3, start)] == whole


def test_what_is_near_differs_little() -> None:
    start = sobol_trials(SPACE, 1, seed=0)[0]
    for params in near(SPACE, start, np.random.default_rng(0), 50):
        differing = {path for path in SPACE if params.get(path) != start.get(path)}
        # A condition brings another parameter with it.
        assert len(differing - {"recipe.train.loss.beta"}) <= 2


SMALL = study(
    "space:\n"
    "  recipe.train.loss: {kind: categorical, choices: [madry, trades]}\n"
    "  recipe.train.loss.beta: {kind: float, low: 1, high: 3, step: 0.5, when: {recipe.train.loss: trades}}\n"
    "  recipe.epochs: {kind: int, low: 10, high: 30, step: 10}\n"
).space


def test_a_small_space_is_listed_in_full_and_a_continuum_is_not() -> None:
    found = all_trials(SMALL, 100)
    assert found is not None
    assert len(found) == len({identity(params) for params in found}) == 3 + 5 * 3
    assert all(active(SMALL, params) == params for params in found)
    assert all_trials(SMALL, 10) is None
    assert all_trials(SPACE, 10**9) is None
    assert all_trials({}, 1) == [{}]


def test_names_tell_values_apart_that_are_equal_to_python() -> None:
    assert len({identity({"a": value}) for value in (1, 1.0, True)}) == 3


VALUES = {
    "even": ([0, 0.05, 0.1, 0.15], [0, 1 / 3, 2 / 3, 1]),
    "fractions": (["4/255", "8/255", "16/255"], [0, 1 / 3, 1]),
    "powers": ([1e-6, 1e-5, 1e-4], [0, 0.5, 1]),
    "powers and zero": ([0.0, 1e-6, 1e-5], [0, 0.5, 1]),
    "two texts": (["a", "b"], [0, 1]),
    "truth": ([True, False], [0, 1]),
}


@pytest.mark.parametrize("case", VALUES)
def test_choices_with_an_order_keep_their_distances(case: str) -> None:
    choices, spots = VALUES[case]
    encoder = Encoder({"recipe.rewind": Categorical(choices=tuple(choices))})
    rows = encoder.rows([{"recipe.rewind": choice} for choice in choices])
    assert rows[:, 0] == pytest.approx(spots)


def test_choices_without_an_order_are_equally_far_apart_and_share_a_length() -> None:
    encoder = Encoder(SPACE)
    base = next(params for params in sobol_trials(SPACE, 8, 0) if params["recipe.train.loss"] == "madry")
    rows = encoder.rows([{**base, "recipe.rewind": choice} for choice in ("init", 2, "dense_trained")])
    apart = [np.linalg.norm(rows[a] - rows[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert apart == pytest.approx([1, 1, 1])
    assert len(encoder.groups) == rows.shape[1] == len(SPACE) + 2
    assert list(encoder.groups).count(1) == 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_features_are_scaled_and_inactive_parameters_have_one_value(seed: int) -> None:
    found = sobol_trials(SPACE, 16, seed)
    rows = Encoder(SPACE).rows(found)
    assert rows.min() >= 0
    assert rows.max() <= 1 + 1e-9
    beta = list(Encoder(SPACE).groups).index(list(SPACE).index("recipe.train.loss.beta"))
    absent = [at for at, params in enumerate(found) if params["recipe.train.loss"] == "madry"]
    assert (rows[absent, beta] == 0.5).all()


def test_sparsity_is_scaled_by_what_is_left_beyond_the_range_too() -> None:
    encoder = Encoder({"recipe.sparsity": SPACE["recipe.sparsity"]})
    rows: Any = encoder.rows([{"recipe.sparsity": value} for value in (0.0, 1 - 0.02**0.5, 0.98)])
    assert rows[:, 0] == pytest.approx([0, 0.5, 1])
