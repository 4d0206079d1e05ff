from __future__ import annotations

from math import factorial

import numpy as np
import pytest

from search.results.bootstrap import Sample, p_nondominated, unpacked_passes

DRAWS = 4000


def sample(*verdicts: list[bool], sparsity: float = 0.5) -> Sample:
    """One network per seed, with one kind of accuracy."""
    return Sample(np.array(verdicts, dtype=bool)[:, None, :], np.full((len(verdicts), 1), sparsity))


def judge(at: int, accuracies: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.column_stack([accuracies[:, 0], others[:, 0]])


def not_worse(gains: int, losses: int, examples: int) -> float:
    """Return the probability, by the trinomial, that a resample has at least as many gains as losses."""
    total = 0.0
    for up in range(examples + 1):
        for down in range(min(up, examples - up) + 1):
            same = examples - up - down
            ways = factorial(examples) // (factorial(up) * factorial(down) * factorial(same))
            rest = examples - gains - losses
            total += ways * (gains / examples) ** up * (losses / examples) ** down * (rest / examples) ** same
    return total


@pytest.mark.parametrize(("gains", "losses"), [(6, 3), (4, 4), (2, 5)])
def test_a_denser_point_is_on_the_front_as_often_as_the_trinomial_says(gains: int, losses: int) -> None:
    """It is on the front if it is more robust than the sparser one; the examples are the same for both."""
    examples = 24
    dense = [True] * gains + [False] * losses + [True] * (examples - gains - losses)
    sparse = [False] * gains + [True] * losses + [True] * (examples - gains - losses)
    found = p_nondominated([sample(dense, sparsity=0.2), sample(sparse, sparsity=0.8)], judge, DRAWS)
    assert found[1] == 1.0
    exact = 1 - not_worse(losses, gains, examples)
    assert found[0] == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / DRAWS))


def test_the_same_examples_are_drawn_for_all_points() -> None:
    """A network that is right where another is, and nowhere else, never ties or wins by the draw of the examples."""
    better, worse = [True] * 40 + [False] * 10, [True] * 20 + [False] * 30
    assert p_nondominated([sample(better), sample(worse)], judge, 500) == [1.0, 0.0]


def test_seeds_are_drawn_for_each_point() -> None:
    """One seed is right everywhere, the other nowhere; against one half the first wins unless both draws are bad."""
    half = [[True], [False]]
    both = [[True] * 2, [False] * 2]
    rival = Sample(np.array([[[True, True]]]), np.array([[0.9]]))
    found = p_nondominated([sample(*both, sparsity=0.2), rival], judge, DRAWS)
    assert found == [0.0, 1.0], "two draws of the best seed equal the rival, which is sparser"
    weaker = Sample(np.zeros((1, 1, 1), dtype=bool), np.array([[0.9]]))
    found = p_nondominated([sample(*half, sparsity=0.2), weaker], judge, DRAWS)
    assert found[0] == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / DRAWS))
    assert found[1] == 1.0


def test_the_same_seeds_are_drawn_for_all_points() -> None:
    """One seed is good and one bad at both sparsities, and pruning costs each of them an example."""
    dense, sparse = [[True] * 9, [True] * 4 + [False] * 5], [[True] * 8 + [False], [True] * 3 + [False] * 6]
    found = p_nondominated([sample(*dense, sparsity=0.2), sample(*sparse, sparsity=0.8)], judge, DRAWS)
    # Where no example that pruning costs is drawn for any seed drawn, both are equally robust.
    neither = (7 / 9) ** 9 / 2 + (8 / 9) ** 9 / 2
    assert found == [pytest.approx(1 - neither, abs=0.03), 1.0]


def test_infeasible_resamples_do_not_count() -> None:
    """Of two examples one is right, and half of the resamples have an accuracy of one half."""
    bound = 0.6
    only = sample([True, False])

    def bounded(at: int, accuracies: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.where(accuracies >= bound, judge(at, accuracies, others), np.nan)

    found = p_nondominated([only], bounded, DRAWS)
    assert found[0] == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / DRAWS))


def test_no_point_has_no_probability() -> None:
    assert p_nondominated([], judge) == []


@pytest.mark.parametrize(("passes", "examples"), [(1, 8), (1, 13), (5, 11), (3, 128)])
def test_outcomes_of_several_passes_are_averaged(passes: int, examples: int) -> None:
    outcomes = np.random.default_rng(0).random((passes, examples)) < 0.5
    assert unpacked_passes(np.packbits(outcomes).tobytes().hex(), examples).tolist() == outcomes.mean(axis=0).tolist()


def test_outcomes_of_too_few_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="7 examples"):
        unpacked_passes("ff", 7)
