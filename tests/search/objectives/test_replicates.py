from __future__ import annotations

import statistics

import pytest

from search.objectives.replicates import Replicated, mean_point
from tests.search.factories import outcome, point, sparsity_study, trial


def test_means_and_deviations_are_over_seeds_and_not_over_images() -> None:
    robusts = [0.5, 0.6, 0.75]
    found = mean_point([point(robust_accuracy=value, clean_accuracy=0.9) for value in robusts])
    assert found.robust_accuracy == pytest.approx(statistics.fmean(robusts), abs=1e-3)
    assert found.robust_accuracy_sd == pytest.approx(statistics.stdev(robusts), abs=1e-2)
    assert (found.seeds, found.clean_accuracy_sd) == (3, 0.0)
    assert mean_point([point()]).robust_accuracy_sd is None


def test_the_mean_has_the_worst_status_and_all_flags() -> None:
    found = mean_point([point(), point(flags=("a",)), point(status="invalid", flags=("b", "a"))])
    assert (found.status, found.flags) == ("invalid", ("a", "b"))


def test_replicates_count_when_the_last_has_ended() -> None:
    spec = sparsity_study(seeds=[1, 2])
    first, second = (trial(at, spec, configuration=0, seed=seed) for at, seed in ((0, 1), (1, 2)))
    collected = Replicated(spec.seeds)
    assert collected.end(first, outcome(0, [point(0, robust_accuracy=0.4), point(1, robust_accuracy=0.2)])) == ()
    found = collected.end(second, outcome(1, [point(0, robust_accuracy=0.8)]))
    assert [each.robust_accuracy for each in found] == pytest.approx([0.6, 0.2], abs=1e-3)
    alone = trial(2, sparsity_study())
    assert list(Replicated(()).end(alone, outcome(2, [point()]))) == [point()]
    assert Replicated(()).end(alone, outcome(2, [point()], state="stopped")) == ()


def test_where_one_was_stopped_the_better_ones_count_for_nothing() -> None:
    spec = sparsity_study(seeds=[1, 2])
    first, second = (trial(at, spec, configuration=0, seed=seed) for at, seed in ((0, 1), (1, 2)))
    collected = Replicated(spec.seeds)
    assert collected.end(first, outcome(0, [point(0, robust_accuracy=0.2)], state="stopped")) == ()
    assert collected.end(second, outcome(1, [point(0, robust_accuracy=0.8)])) == ()
