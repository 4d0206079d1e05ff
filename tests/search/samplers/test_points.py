from __future__ import annotations

import numpy as np
import pytest

from search.launch.ask_tell import Sampling
from search.samplers.points import ObservedPoints, forget, worth_keeping
from search.space.parameters import Params
from tests.search.studies import study

SPACE = "space:\n  recipe.sparsity: {kind: float, low: 0.1, high: 0.95}\nconstraints: {clean_accuracy: '>= 0.5'}\n"


def sampling(trials: int) -> Sampling:
    """Every fourth trial has failed, every seventh was stopped, one runs; a sparse network is not robust."""
    asked = Sampling(study(SPACE + "sampler: random\n"))
    asked.add_transferred("other", {"recipe.sparsity": 0.5}, [0.9, 0.5], [0.0])
    for number in range(trials):
        sparsity = asked.ask(number)[0]["recipe.sparsity"]
        state = "failed" if number % 4 == 3 else "stopped" if number % 7 == 6 else "complete"
        asked.tell(number, state, [1 - sparsity**2, sparsity], [sparsity - 0.9])  # type: ignore[arg-type]
    asked.ask(trials)
    return asked


def test_arrays_hold_what_the_records_hold() -> None:
    asked = sampling(12)
    points = ObservedPoints.of(asked.observations, asked.problem)
    learned = asked.observations.learned()
    assert points.transferred == 1
    assert points.params == [row.params for row in learned]
    assert points.values.tolist() == [list(row.values) for row in learned]
    assert points.violations.tolist() == [list(row.violations) for row in learned]
    assert points.feasible.tolist() == [row.violations[0] <= 0 for row in learned]
    assert len(points.failed) == 3
    assert points.running == [asked.observations[-1].params]
    assert (len(points.stopped), points.last.shape) == (1, (1, 2))
    (stopped,) = (row for row in asked.observations if row.state == "stopped")
    assert points.last.tolist() == [list(stopped.values)]


@pytest.mark.parametrize("most", [4, 8])
def test_of_twice_as_many_points_the_better_half_and_the_running_trials_stay(most: int) -> None:
    asked = sampling(40)
    smaller = forget(asked.observations, most, asked.problem, seed=0)
    assert smaller.complete == most
    assert [row for row in smaller if row.state == "running"] == [asked.observations[-1]]
    assert [row for row in asked.observations if row in list(smaller)] == list(smaller), "the order stays"
    assert smaller.learned()[-most // 4 :] == asked.observations.learned()[-most // 4 :], "the newest stay"


def test_where_no_point_is_feasible_those_that_violate_least_stay() -> None:
    draws = np.random.default_rng(0)
    violations = draws.uniform(0.1, 0.9, (600, 1))
    nothing: list[Params] = []
    params: list[Params] = [{"a": float(at)} for at in range(600)]
    points = ObservedPoints(params, draws.random((600, 2)), violations, nothing, nothing, nothing, np.zeros((0, 2)))
    kept = worth_keeping(points, 250, 80, np.random.default_rng(1))
    assert len(kept) == 250
    assert {*np.argsort(violations[:, 0])[:125]} <= {*kept}


def test_fewer_points_are_all_kept() -> None:
    asked = sampling(6)
    assert forget(asked.observations, 100, asked.problem, seed=0) is asked.observations
