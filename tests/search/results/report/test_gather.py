"""What a report is made of: the growth of the hypervolume, where the compute went, networks layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search.results.report.gather import Cost, Kind, costs, gather, kind_of, progress_of
from search.results.study import Study
from search.results.table import point_rows
from tests.search import factories
from trainables.store.confirmations import ALL
from trainables.store.records import Outcome
from trainables.store.stages import Stages
from trainables.store.state import State

SPEC = factories.study_spec(constraints={})


def ended(number: int, minute: int, *points: Any, **changes: Any) -> Outcome:
    when = f"2030-01-01T00:{minute:02d}:00+00:00"
    return factories.outcome(number, points, finished=when, seconds=10.0, **changes)


def at(robust: float, sparsity: float, measure: int = 0, **changes: Any) -> Any:
    return factories.point(measure, robust_accuracy=robust, sparsity=sparsity, **changes)


def test_the_hypervolume_grows_in_the_order_in_which_trials_ended() -> None:
    outcomes = [
        ended(0, 3, at(0.5, 0.5)),
        ended(1, 1, at(0.25, 0.5, epochs_trained=4)),
        ended(2, 2, at(0.9, 0.9), state="stopped"),
        ended(3, 4, at(1.0, 0.9, status="invalid")),
        ended(4, 5, at(0.25, 0.75, epochs_trained=2)),
    ]
    found = progress_of(SPEC, [(factories.trial(each.number), each) for each in outcomes])
    assert [(each.trial, each.ended) for each in found] == [(1, 1), (2, 2), (0, 3), (3, 4), (4, 5)]
    assert [each.hypervolume for each in found] == pytest.approx([0.125, 0.125, 0.25, 0.25, 0.3125])
    assert [each.epochs for each in found] == [4, 19, 34, 49, 51]
    assert [each.seconds for each in found] == [10, 20, 30, 40, 50]


def test_the_compute_is_counted_by_how_trials_ended() -> None:
    outcomes = [
        ended(0, 0, at(0.5, 0.5, epochs_trained=6, epochs_shared=9)),
        ended(1, 0, at(0.5, 0.5, epochs_trained=5), at(0.4, 0.7, 1, epochs_trained=8, epochs_shared=2)),
        ended(2, 0, state="stopped", rungs=(factories.rung(resource=3),)),
        ended(3, 0, failure=factories.failure()),
    ]
    assert costs(outcomes) == {
        "complete": Cost(trials=2, epochs=14, shared=11, seconds=20.0),
        "stopped": Cost(trials=1, epochs=3, seconds=10.0),
        "failed": Cost(trials=1, seconds=10.0),
    }
    assert costs(outcomes, 14.0)["complete"].measuring == 6.0
    assert costs(outcomes, 14.0)["failed"].measuring is None


KINDS: dict[Kind, dict[str, Any]] = {
    "front": {},
    "flagged": {"flags": ("zero_gradient",)},
    "warned": {"flags": ("zero_gradient",), "robust_accuracy": 0.3},
    "invalid": {"status": "invalid"},
    "screened": {"tier": "screened"},
    "dominated": {"robust_accuracy": 0.3},
    "infeasible": {"clean_accuracy": 0.71},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_is_shown_as_what_it_is(kind: Kind) -> None:
    sparser = {} if kind in ("dominated", "warned") else {"sparsity": 0.9}
    points = [factories.point(0, robust_accuracy=0.6), factories.point(1, **sparser, **KINDS[kind])]
    rows = point_rows(factories.study_spec(), [(factories.trial(0), factories.outcome(0, points))])
    assert kind_of(rows[-1]) == kind


@pytest.fixture
def stored(tmp_path: Path) -> Study:
    """A study with stages: networks of two layers of 4 weights; the first has as many left as the trial's number."""
    records = factories.make_study(tmp_path / "study", 3, troubled=False)
    stages = Stages(records.storage)
    for trial, outcome in records.trials():
        for key in trial.keys[:-1]:
            weight = (torch.arange(4).reshape(2, 2) < trial.number).float()
            state = State(
                {"a.weight": weight, "b.weight": torch.ones(2, 2)},
                {},
                dict.fromkeys(("a.weight", "b.weight"), weight >= 0),
            )
            stages.save(key, state, epochs=5, seconds=1.5, study=trial.study, trial=trial.number)
        assert outcome is not None
    return Study(records)


def test_networks_of_the_front_are_read_layer_by_layer(stored: Study) -> None:
    found = gather(stored).networks
    assert {network.point.point for network in found} == {row.point for row in stored.front()}
    assert len(found) > 1
    for network in found:
        assert [layer.nonzero for layer in network.layers] == [network.point.trial, 4]


def test_what_cannot_be_read_is_listed(tmp_path: Path) -> None:
    from tests.search.confirmations import make_confirmed_study

    study = make_confirmed_study(tmp_path / "study", 4, seeds=1)
    weights = study.front()[0].weights_sha256
    (tmp_path / "study" / "confirm" / weights / ALL / "clean.json").write_text("{")
    (tmp_path / "study" / "trials" / "00000" / "outcome.json").write_text("{")
    paths = [path for path, _ in gather(Study.open(study.records.storage.location)).damaged]
    assert paths == ["trials/00000/outcome.json", f"confirm/{weights}/{ALL}/clean.json"]
