from __future__ import annotations

from pathlib import Path

import numpy as np

from search.results.candidates import dense_stage, near, needed_stages
from search.results.table import point_rows
from tests.search import factories
from trainables.method.phases import Measure, Prune
from trainables.recipes.trial import keyed_phases
from trainables.store.records import Outcome, Point, TrialRecord

SPEC = factories.study_spec()
EXAMPLES = 80


def verdicts(correct: list[int]) -> dict[str, object]:
    chosen = np.zeros(EXAMPLES, dtype=bool)
    chosen[correct] = True
    return {"verdicts": np.packbits(chosen).tobytes().hex(), "robust_accuracy": len(correct) / EXAMPLES}


def measured(sparsity: float, correct: list[int]) -> Point:
    return factories.point(sparsity=sparsity, examples=EXAMPLES, clean_accuracy=1.0, **verdicts(correct))


def trials(*points: Point) -> list[tuple[TrialRecord, Outcome | None]]:
    return [(factories.trial(n), factories.outcome(n, [found])) for n, found in enumerate(points)]


def test_near_are_points_that_chance_in_the_examples_may_have_kept_from_the_front() -> None:
    front = measured(0.9, list(range(60)))
    chance = measured(0.8, [*range(58), 70])  # Right where the front is wrong, once: more robust in some resamples.
    hopeless = measured(0.8, list(range(59)))  # Never right where the front is wrong: dominated in every resample.
    rows = point_rows(SPEC, trials(front, chance, hopeless))
    assert [row.point for row in near(SPEC, rows)] == ["t1.0", "t0.0"]
    assert [row.on_front for row in near(SPEC, rows)] == [False, True]


def test_each_network_is_listed_once_and_invalid_or_infeasible_ones_are_not() -> None:
    front = measured(0.9, list(range(60)))
    invalid = factories.point(status="invalid", examples=EXAMPLES, clean_accuracy=1.0, **verdicts(list(range(70))))
    pale = factories.point(examples=EXAMPLES, clean_accuracy=0.7, **verdicts(list(range(50))))
    rows = point_rows(SPEC, trials(front, front, invalid, pale))
    assert [row.point for row in near(SPEC, rows)] == ["t0.0"]


def test_points_without_verdicts_are_near_if_their_interval_reaches_the_front() -> None:
    points = [factories.point(sparsity=s, robust_accuracy=r) for s, r in ((0.9, 0.7), (0.8, 0.69), (0.8, 0.5))]
    assert [row.point for row in near(SPEC, point_rows(SPEC, trials(*points)))] == ["t1.0", "t0.0"]


def test_the_dense_parent_is_the_state_before_the_first_pruning() -> None:
    trial = factories.trial(0)
    chain = keyed_phases(SPEC.trial(trial.params), factories.DATA_HASH)
    cut = next(step for step in chain if isinstance(step.phase, Prune))
    dense, pruned = (step.parent for step in chain if isinstance(step.phase, Measure))
    assert pruned is not None
    assert dense is not None
    assert dense_stage(trial, pruned) == cut.parent == dense
    assert dense_stage(trial, dense) is None


def test_gc_keeps_the_networks_near_the_front_and_their_dense_parents(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "synthetic", 12)
    rows = near(SPEC, point_rows(SPEC, records.trials()))
    kept = needed_stages(SPEC, records.trials())
    assert {row.measured.stage for row in rows} <= kept
    issued = {trial.number: trial for trial, _ in records.trials()}
    parents = {dense_stage(issued[row.trial], row.measured.stage) for row in rows if row.sparsity > 0}
    assert parents
    assert parents <= kept
