from __future__ import annotations

from search.objectives.problem import SearchProblem
from search.samplers.base import SamplerContext
from search.samplers.sobol import Qmc, sobol_points, sobol_trials
from search.space.parameters import FloatRange
from tests.search.studies import study


def test_sobol_points_cover_the_space_evenly_whatever_was_asked_before() -> None:
    space = {"a": FloatRange(low=0, high=1), "b": FloatRange(low=0, high=1)}
    problem = SearchProblem(space, {"sparsity": "maximise"}, {}, {}, 0.9)
    points = [Qmc().suggest(SamplerContext(1, number, problem)).params for number in range(16)]
    for name in space:
        # A (0, m, s)-net: each sixteenth of an axis holds exactly one of sixteen points.
        assert sorted(int(16 * point[name]) for point in points) == list(range(16))


SPACE = study(
    "space:\n"
    "  recipe.sparsity: {kind: float, low: 0.1, high: 0.98}\n"
    "  recipe.train.loss: {kind: categorical, choices: [madry, trades]}\n"
    "  recipe.train.loss.beta: {kind: float, low: 1, high: 6, step: 0.5, when: {recipe.train.loss: trades}}\n"
).space


def test_a_sequence_can_start_anywhere() -> None:
    whole = sobol_trials(SPACE, 16, seed=3)
    assert [params for start in range(16) for params in sobol_trials(SPACE, 1, 3, start)] == whole
    assert sobol_points(2, 8, seed=1) == [*sobol_points(2, 4, 1), *sobol_points(2, 4, 1, start=4)]
