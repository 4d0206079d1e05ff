from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import objectives
from search.results.exporters.base import readable
from search.results.study import Study
from search.results.table import PointRow, TrialRow, columns, point_rows, table, trial_rows
from search.store.records import Records
from search.study.spec import StudySpec
from tests.search import factories
from trainables.metrics import wilson
from trainables.store.records import Outcome, Point, TrialRecord
from trainables.store.storage import Storage

DOCUMENTED = """
point, trial, study, recipe, seed, model, data, on_front, feasible, status, flags,
robust_accuracy, robust_accuracy_low, robust_accuracy_high, clean_accuracy, clean_accuracy_low, clean_accuracy_high,
examples, sparsity, nonzero, prunable, macs_dense, macs_effective, attack, norm, eps, eps_text, split, tier,
epochs_trained, epochs_shared, seconds, device, weights_sha256, code_version, started, finished,
weights_outside, epoch, configuration, seeds,
robust_accuracy_mean, robust_accuracy_sd, clean_accuracy_mean, clean_accuracy_sd
"""

UNKNOWN = {"recipe", "model", "data", "macs_dense", "macs_effective", "weights_outside"} | {
    "epoch",
    "configuration",
    "robust_accuracy_sd",
    "clean_accuracy_sd",
}
"""The columns that may be null."""

SPEC = factories.study_spec()
Trials = list[tuple[TrialRecord, Outcome | None]]


def trials(*outcomes: Outcome | None) -> Trials:
    return [(factories.trial(number), outcome) for number, outcome in enumerate(outcomes)]


def complete(number: int, *points: Point) -> Outcome:
    return factories.outcome(number, points)


def test_columns_are_the_documented_ones_in_order() -> None:
    assert [field.name for field in columns(PointRow)] == DOCUMENTED.replace(",", " ").split()


def test_schema_is_explicit_and_does_not_depend_on_rows() -> None:
    empty = table(PointRow, [], SPEC.space)
    full = table(PointRow, point_rows(SPEC, trials(complete(0, factories.point()))), SPEC.space)
    assert empty.schema == full.schema
    assert {name: str(empty.schema.field(name).type) for name in ("trial", "eps", "flags", "on_front", "point")} == {
        "trial": "int64",
        "eps": "double",
        "flags": "list<element: string>",
        "on_front": "bool",
        "point": "string",
    }
    assert {field.name: str(field.type) for field in empty.schema if field.name.startswith("param.")} == {
        "param.recipe.sparsity": "double",
        "param.recipe.train.eps": "double",
        "param.recipe.train.loss.kind": "string",
    }
    nullable = {field.name for field in empty.schema if field.nullable and not field.name.startswith("param.")}
    assert nullable == UNKNOWN
    assert table(TrialRow, [], SPEC.space).schema == table(TrialRow, trial_rows(trials(None)), SPEC.space).schema


def test_row_holds_what_was_recorded() -> None:
    measured = factories.point(
        2, robust_accuracy=0.7, macs_dense=100, macs_effective=50, flags=("a", "b"), status="warn"
    )
    (row,) = point_rows(SPEC, trials(complete(0, measured)))
    assert (row.point, row.trial, row.study, row.seed) == ("t0.2", 0, "synthetic", 0)
    assert (row.recipe, row.model, row.data) == ("three_stage", "lenet300", "digits")
    assert (row.robust_accuracy_low, row.robust_accuracy_high) == wilson(252, 360)
    assert (row.clean_accuracy_low, row.clean_accuracy_high) == wilson(324, 360)
    assert row.robust_accuracy_low < row.robust_accuracy < row.robust_accuracy_high
    assert (row.macs_dense, row.macs_effective, row.flags, row.status) == (100, 50, ("a", "b"), "warn")
    assert row.measured == measured
    assert row.params == factories.params(0)


def test_unknown_is_null() -> None:
    issued = factories.trial(0, params={"recipe.sparsity": 0.5}).model_copy(update={"spec": {"model": 3}})
    rows = point_rows(SPEC, [(issued, complete(0, factories.point()))])
    (cells,) = table(PointRow, rows, SPEC.space).to_pylist()
    unknown = {name for name, value in cells.items() if value is None}
    assert unknown == UNKNOWN | {
        "param.recipe.train.eps",
        "param.recipe.train.loss.kind",
    }


def test_point_in_the_middle_shows_the_parameters_as_issued() -> None:
    dense = factories.point(0, sparsity=0.0, stands_for={"sparsity": 0.0})
    rows = point_rows(SPEC, trials(complete(0, dense, factories.point(1, sparsity=0.9))))
    assert [row.params["recipe.sparsity"] for row in rows] == [factories.params(0)["recipe.sparsity"]] * 2


def test_only_complete_trials_have_points() -> None:
    best = factories.point(robust_accuracy=0.89, sparsity=0.97)
    found = trials(
        complete(0, factories.point()),
        factories.outcome(1, [best], state="stopped"),
        factories.outcome(2, [best], failure=factories.failure()),
        None,
    )
    rows = point_rows(SPEC, found)
    assert [(row.point, row.on_front) for row in rows] == [("t0.0", True)]


def test_infeasible_and_invalid_points_are_never_on_the_front_and_beat_nobody() -> None:
    points = (
        factories.point(0, robust_accuracy=0.6, clean_accuracy=0.8, sparsity=0.5),
        factories.point(1, robust_accuracy=0.7, clean_accuracy=0.7, sparsity=0.9),
        factories.point(2, robust_accuracy=0.9, clean_accuracy=0.9, sparsity=0.9, status="invalid", flags=("masked",)),
        factories.point(3, robust_accuracy=0.5, clean_accuracy=0.8, sparsity=0.4),
        factories.point(4, robust_accuracy=0.5, clean_accuracy=0.75, sparsity=0.6, status="warn"),
    )
    rows = point_rows(SPEC, trials(complete(0, *points)))
    assert [row.on_front for row in rows] == [True, False, False, False, True]
    assert [row.feasible for row in rows] == [True, False, True, True, True]


def test_duplicates_and_ties_are_both_on_the_front() -> None:
    same = {"robust_accuracy": 0.6, "sparsity": 0.5}
    rows = point_rows(SPEC, trials(*(complete(n, factories.point(**same, seconds=n)) for n in range(3))))
    assert [(row.point, row.on_front) for row in rows] == [("t0.0", True), ("t1.0", True), ("t2.0", True)]


def test_point_whose_objective_is_unknown_is_off_the_front() -> None:
    spec = factories.study_spec(objectives={"robust_accuracy": "maximise", "macs_effective": "minimise"})
    points = (factories.point(0, robust_accuracy=0.8), factories.point(1, macs_dense=100, macs_effective=10))
    assert [row.on_front for row in point_rows(spec, trials(complete(0, *points)))] == [False, True]


UNIT = st.integers(0, 20).map(lambda i: i / 20)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            UNIT, UNIT, UNIT, st.sampled_from(["ok", "warn", "invalid"]), st.sampled_from(["complete", "stopped"])
        ),
        max_size=12,
    )
)
def test_front_of_a_study_equals_brute_force(found: list[tuple[float, float, float, str, str]]) -> None:
    outcomes = [
        factories.outcome(
            number,
            [factories.point(robust_accuracy=robust, clean_accuracy=clean, sparsity=sparsity, status=status)],
            state=state,
        )
        for number, (robust, clean, sparsity, status, state) in enumerate(found)
    ]
    one = factories.trial(0)
    rows = point_rows(SPEC, [(one.model_copy(update={"number": o.number}), o) for o in outcomes])
    able = [
        o.points[0]
        for o in outcomes
        if o.state == "complete" and o.points[0].status != "invalid" and o.points[0].clean_accuracy >= 0.75
    ]

    def beaten(point: Point) -> bool:
        mine = (point.robust_accuracy, point.sparsity)
        others = [(other.robust_accuracy, other.sparsity) for other in able]
        return any(a >= mine[0] and b >= mine[1] and (a, b) != mine for a, b in others)

    expected = [point in able and not beaten(point) for point in (row.measured for row in rows)]
    assert [row.on_front for row in rows] == expected
    assert all(objectives.feasible(row.measured, SPEC) == row.feasible for row in rows)


@pytest.mark.parametrize(
    ("parameter", "values", "kind", "cells"),
    [
        ({"kind": "int", "low": 1, "high": 9}, [1, None], "int64", [1, None]),
        ({"kind": "float", "low": 0, "high": 1}, [1, 0.5], "double", [1.0, 0.5]),
        ({"kind": "categorical", "choices": [True, False]}, [True, None], "bool", [True, None]),
        ({"kind": "categorical", "choices": ["init", 3]}, ["init", 3], "string", ["init", "3"]),
        ({"kind": "categorical", "choices": [True, 3]}, [True, 3], "string", ["true", "3"]),
        ({"kind": "categorical", "choices": ["8/255", "4/255"]}, ["8/255"], "string", ["8/255"]),
        # A record that is not what the space could give still makes a table.
        ({"kind": "float", "low": 0, "high": 1}, ["=cmd()", [1, {"a": 2}]], "string", ["=cmd()", '[1, {"a": 2}]']),
    ],
)
def test_parameter_columns_take_the_type_of_the_space(
    parameter: dict[str, object], values: list[object], kind: str, cells: list[object]
) -> None:
    from search.space.parameters import PARAMETERS

    rows = [row for value in values for row in trial_rows([(factories.trial(0, params={"p": value}), None)])]
    column = table(TrialRow, rows, {"p": PARAMETERS.parse(parameter)}).column("param.p")
    assert str(column.type) == kind
    assert column.to_pylist() == cells


def test_trials_table_tells_states_and_failures() -> None:
    found = trials(
        complete(0, factories.point(0), factories.point(1)), factories.outcome(1, failure=factories.failure()), None
    )
    cells: pa.Table = table(TrialRow, trial_rows(found), SPEC.space)
    assert cells.column("state").to_pylist() == ["complete", "failed", None]
    assert cells.column("points").to_pylist() == [2, 0, 0]
    assert cells.column("seconds").to_pylist() == [5.0, 5.0, None]
    assert cells.column("failure").to_pylist() == [None, "diverged", None]
    assert cells.column("message").to_pylist() == [None, "the loss is not finite in epoch 3", None]


def test_metrics_are_columns_after_the_parameters_null_where_a_point_has_them_not() -> None:
    measured = [factories.point(0, metrics={"hoyer": 0.5, "a": None}), factories.point(1, metrics={"b": 2.0})]
    found: pa.Table = table(PointRow, point_rows(SPEC, trials(complete(0, *measured))), SPEC.space)
    assert found.column_names[-3:] == ["metric.a", "metric.b", "metric.hoyer"]
    assert [found.column(name).to_pylist() for name in found.column_names[-3:]] == [
        [None] * 2,
        [None, 2.0],
        [0.5, None],
    ]
    assert not [name for name in table(TrialRow, trial_rows(trials(None)), SPEC.space).column_names if "metric" in name]
    shown = readable(found, what="points", study="tiny")
    assert shown.headings[5:7] == ("b", "hoyer")
    assert [row[5:7] for row in shown.rows] == [("", "0.5"), ("2", "")]


def test_an_earlier_point_of_a_trial_has_parameters_of_its_own() -> None:
    trial = factories.trial(0).model_copy(update={"params": {"recipe.sparsity": 0.98, "recipe.train.eps": 0.1}})
    early = factories.point(0, sparsity=0.75).model_copy(update={"stands_for": {"sparsity": 0.75, "rounds": 2}})
    last = factories.point(1, sparsity=0.98)
    first, second = point_rows(SPEC, [(trial, factories.outcome(0, [early, last]))])
    assert first.params == second.params == second.own_params == trial.params
    assert first.own_params == {"recipe.sparsity": 0.75, "recipe.train.eps": 0.1}


def replicates(*robusts: float, spec: StudySpec, missing: int = 0) -> list[tuple[TrialRecord, Outcome | None]]:
    """A configuration with a trial per seed, of which the last `missing` have not ended."""
    found: list[tuple[TrialRecord, Outcome | None]] = []
    for number, (seed, robust) in enumerate(zip(spec.seeds, robusts, strict=True)):
        issued = factories.trial(number, spec, configuration=0, seed=seed, params=factories.params(0))
        measured = factories.point(0, robust_accuracy=robust, clean_accuracy=0.9)
        ended = number < len(robusts) - missing
        found.append((issued, factories.outcome(number, [measured]) if ended else None))
    return found


def test_replicates_are_judged_by_their_means_and_shown_with_their_deviation() -> None:
    spec = factories.study_spec(seeds=[1, 2, 3], constraints={"robust_accuracy": ">= 0.55"})
    rows = point_rows(spec, replicates(0.5, 0.6, 0.7, spec=spec))
    assert [row.on_front for row in rows] == [True] * 3, "0.5 alone would miss the bound"
    assert {(row.configuration, row.seeds) for row in rows} == {(0, 3)}
    for row in rows:
        assert row.robust_accuracy_mean == pytest.approx(0.6, abs=1e-3)
        assert row.robust_accuracy_sd == pytest.approx(0.1, abs=2e-3)
        assert row.clean_accuracy_sd == 0.0
    cells = table(PointRow, rows[:1], spec.space)
    shown = readable(cells, what="front", study="tiny")
    assert shown.rows[0][2:4] == ("60.0 ± 10.0 (3)", "90.0 ± 0.0 (3)")
    assert "standard deviation over training seeds" in shown.caption
    assert "Wilson" not in shown.caption
    apart = readable(cells, what="points", study="tiny")
    assert apart.rows[0][2].startswith("50.0 [")
    assert apart.headings[4] == "seed"


def test_a_configuration_waits_for_its_last_replicate() -> None:
    spec = factories.study_spec(seeds=[1, 2, 3])
    rows = point_rows(spec, replicates(0.5, 0.6, 0.7, spec=spec, missing=1))
    assert [(row.seeds, row.on_front) for row in rows] == [(2, False)] * 2
    failed = replicates(0.5, 0.6, 0.7, spec=spec, missing=1)
    failed[2] = failed[2][0], factories.outcome(2, failure=factories.failure())
    assert [(row.seeds, row.on_front) for row in point_rows(spec, failed)] == [(2, True)] * 2
    stopped = replicates(0.5, 0.6, 0.7, spec=spec, missing=1)
    stopped[2] = stopped[2][0], factories.outcome(2, [factories.point(0)], state="stopped")
    assert [(row.seeds, row.on_front, row.settled) for row in point_rows(spec, stopped)] == [(2, False, False)] * 2


def test_configurations_that_share_their_networks_are_one(tmp_path: Path) -> None:
    spec = factories.study_spec(seeds=[1, 2], constraints={})
    records = Records.create(Storage(str(tmp_path / "twins")), spec, factories.FINGERPRINT)
    dense = {seed: factories.point(0, robust_accuracy=0.5 + seed / 10, sparsity=0.0) for seed in spec.seeds}
    for number in range(6):
        own, seed = number // 2, spec.seeds[number % 2]
        records.issue(factories.trial(number, spec, configuration=own, seed=seed, params=factories.params(own)))
        sparse = factories.point(1, robust_accuracy=0.4, sparsity=0.8 + own / 100)
        if number != 1:  # The first configuration waits for a seed, and is not on the front yet.
            records.write_outcome(factories.outcome(number, [dense[seed], sparse]))
    front = Study(records).front()
    assert [(row.point, row.configuration, row.seeds) for row in front] == [("t2.0", 1, 2), ("t4.1", 2, 2)]
    records.write_outcome(factories.outcome(1, [dense[2], factories.point(1, robust_accuracy=0.4, sparsity=0.8)]))
    assert [row.point for row in Study(records).front()] == ["t0.0", "t4.1"]
    assert len(Study(records).configurations()) == 1 + 3


def test_points_that_a_configuration_shares_with_an_unfinished_one_are_judged_once_and_by_it(tmp_path: Path) -> None:
    spec = factories.study_spec(seeds=[1, 2], constraints={"clean_accuracy": ">= 0.95"})
    records = Records.create(Storage(str(tmp_path / "twins")), spec, factories.FINGERPRINT)
    shared = factories.point(0)
    ends = [{}, {"state": "stopped"}, {}, {"failure": factories.failure()}]
    for number, end in enumerate(ends):
        own, seed = number // 2, spec.seeds[number % 2]
        records.issue(factories.trial(number, spec, configuration=own, seed=seed, params=factories.params(own)))
        records.write_outcome(factories.outcome(number, [] if end else [shared], **end))
    study = Study(records)
    assert [(row.point, row.settled) for row in study.points()] == [("t0.0", False), ("t2.0", True)]
    assert [row.point for row in study.settled()] == ["t2.0"]
    assert [row.point for row in study.infeasible()] == ["t2.0"]
