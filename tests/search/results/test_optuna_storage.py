from __future__ import annotations

import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.results.exporters.output import OutputError
from search.results.optuna_storage import write
from search.results.study import Study
from search.testing.exporters import HOSTILE
from tests.search import factories
from trainables.store import paths

SPACE = {
    "recipe.sparsity": {"kind": "float", "low": 0.3, "high": 0.98},
    "recipe.train.eps": {"kind": "float", "low": 0.02, "high": 0.2, "log": True},
    "recipe.finetune_epochs": {"kind": "int", "low": 2, "high": 9},
    "recipe.train.loss.kind": {"kind": "categorical", "choices": ["madry", "trades"]},
    "recipe.train.loss.beta": {"kind": "float", "low": 1, "high": 6, "when": {"recipe.train.loss.kind": "trades"}},
}


def opened(file: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{file}")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(factories.make_study(tmp_path_factory.mktemp("made") / "synthetic", 12))


@pytest.fixture(scope="module")
def database(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(study, tmp_path_factory.mktemp("out") / "new" / "study.db")


@pytest.mark.slow
def test_the_study_is_what_it_was(study: Study, database: Path) -> None:
    found = opened(database)
    assert found.study_name == "synthetic"
    assert [direction.name for direction in found.directions] == ["MAXIMIZE", "MAXIMIZE"]
    assert found.metric_names == ["robust_accuracy", "sparsity"]
    assert found.user_attrs["robustsearch.study"] == "synthetic"
    assert [path.name for path in database.parent.iterdir()] == ["study.db"]


def test_every_trial_has_its_state_values_and_parameters(study: Study, database: Path) -> None:
    trials = opened(database).trials
    rows = {row.point: row for row in study.points()}
    wanted = {3: TrialState.FAIL, 5: TrialState.PRUNED, 7: TrialState.FAIL, 11: TrialState.WAITING}
    for record, outcome in study.records.trials():
        trial = trials[record.number]
        assert (trial.number, trial.params) == (record.number, record.params)
        assert trial.state == wanted.get(record.number, TrialState.COMPLETE)
        if trial.state is TrialState.COMPLETE:
            last = rows[f"t{record.number}.1"]
            assert trial.values == [last.robust_accuracy, last.sparsity]
            assert trial.constraints["clean_accuracy"] == 0.75 - last.clean_accuracy
            assert trial.user_attrs["on_front"] == [
                row.point for row in rows.values() if row.on_front and row.trial == record.number
            ]
            assert trial.distributions["recipe.sparsity"] == optuna.distributions.FloatDistribution(0.3, 0.98)
        if outcome is not None:
            assert [each["point"] for each in trial.user_attrs["points"]] == [
                f"t{record.number}.{point.measure}" for point in outcome.points
            ]
            for each, point in zip(trial.user_attrs["points"], outcome.points, strict=True):
                assert (each["robust_accuracy"], each["nonzero"]) == (point.robust_accuracy, point.nonzero)
            assert trial.datetime_start == datetime.fromisoformat(outcome.started).astimezone().replace(tzinfo=None)
    assert trials[3].user_attrs["failure"] == "diverged"
    assert trials[5].user_attrs["last_values"]["sparsity"] == 0
    assert (trials[7].user_attrs["status"], trials[7].values) == ("invalid", None)


def test_a_trial_whose_last_point_was_screened_out_is_pruned(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "study", 0, factories.study_spec(screening={"examples": 64}))
    screened = {"tier": "screened", "attack": "PGD-5", "examples": 64}
    for number, how in enumerate((screened, {})):
        records.issue(factories.trial(number))
        points = [factories.point(0), factories.point(1, sparsity=0.9, **how)]
        records.write_outcome(factories.outcome(number, points))
    first, second = opened(write(Study(records), tmp_path / "study.db")).trials
    assert (first.state, second.state) == (TrialState.PRUNED, TrialState.COMPLETE)


@pytest.mark.slow
def test_spaces_with_conditions_and_minimised_counts_are_kept(tmp_path: Path) -> None:
    spec = factories.study_spec(space=SPACE, objectives={"nonzero": "minimise", "robust_accuracy": "maximise"})
    records = factories.make_study(tmp_path / "s", 0, spec)
    base = {"recipe.sparsity": 0.5, "recipe.train.eps": 0.1, "recipe.finetune_epochs": 3}
    for number, more in enumerate(({"loss.kind": "trades", "loss.beta": 2.5}, {"loss.kind": "madry"})):
        params = base | {f"recipe.train.{name}": value for name, value in more.items()}
        records.issue(factories.trial(number, spec, params=params))
        records.write_outcome(factories.outcome(number, [factories.point(sparsity=0.5)]))
    found = opened(write(Study(records), tmp_path / "x.db"))
    assert [direction.name for direction in found.directions] == ["MINIMIZE", "MAXIMIZE"]
    first, second = found.trials
    assert first.values[0] == factories.PRUNABLE / 2
    assert first.params["recipe.train.loss.beta"] == 2.5
    assert "recipe.train.loss.beta" not in second.params
    assert first.distributions["recipe.train.eps"] == optuna.distributions.FloatDistribution(0.02, 0.2, log=True)
    assert first.distributions["recipe.finetune_epochs"] == optuna.distributions.IntDistribution(2, 9)


@pytest.mark.slow
def test_one_objective_has_intermediate_values(tmp_path: Path) -> None:
    spec = factories.study_spec(objectives={"robust_accuracy": "maximise"})
    records = factories.make_study(tmp_path / "s", 0, spec)
    looks = (factories.rung(resource=3, robust_accuracy=0.25), factories.rung(resource=6, robust_accuracy=0.375))
    for number, state in enumerate(("complete", "stopped")):
        records.issue(factories.trial(number, spec))
        points = [factories.point(robust_accuracy=0.5)] if state == "complete" else []
        records.write_outcome(factories.outcome(number, points, state=state, rungs=looks))
    complete, stopped = opened(write(Study(records), tmp_path / "x.db")).trials
    assert complete.intermediate_values == {3: 0.25, 6: 0.375, 15: 0.5}
    assert (stopped.state, stopped.value, stopped.intermediate_values) == (
        TrialState.PRUNED,
        0.375,
        {3: 0.25, 6: 0.375},
    )


@pytest.mark.slow
def test_numbers_stay_where_a_record_is_damaged(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "s", 5, troubled=False)
    (tmp_path / "s" / paths.outcome(2)).write_text("{")
    trials = opened(write(Study.open(records.storage.location), tmp_path / "x.db")).trials
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == 4
    assert trials[2].state == TrialState.FAIL
    assert trials[2].user_attrs["failure"] == "damaged"
    assert trials[4].params == factories.params(4)


@pytest.mark.slow
def test_any_text_comes_back(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "s", 0)
    for number, text in enumerate(HOSTILE):
        records.issue(factories.trial(number))
        records.write_outcome(factories.outcome(number, failure=factories.failure("bug", text)))
    trials = opened(write(Study(records), tmp_path / "x.db")).trials
    assert [trial.user_attrs["message"] for trial in trials] == HOSTILE


@pytest.mark.slow
def test_its_own_file_is_replaced_and_no_other(study: Study, database: Path, tmp_path: Path) -> None:
    mine = tmp_path / "x.db"
    mine.write_bytes(database.read_bytes())
    assert write(study, mine) == mine
    other = Study(factories.make_study(tmp_path / "other", 1, factories.study_spec(name="other")))
    text = tmp_path / "notes.db"
    text.write_text("my notes")
    several = tmp_path / "several.db"
    several.write_bytes(database.read_bytes())
    optuna.create_study(storage=f"sqlite:///{several}", study_name="of somebody")
    for owner, target in ((other, mine), (study, text), (study, several)):
        before = target.read_bytes()
        with pytest.raises(OutputError, match=r"is not what this command wrote for \w+; --force replaces it"):
            write(owner, target)
        assert target.read_bytes() == before
    write(study, text, force=True)
    assert opened(text).study_name == "synthetic"
    with pytest.raises(OutputError, match="inside the study's directory"):
        write(study, tmp_path / "other" / ".." / ".." / Path(study.records.storage.location) / "study.yaml", force=True)


@pytest.mark.slow
def test_a_file_that_is_being_written_is_left_alone(study: Study, database: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.db"
    target.write_bytes(database.read_bytes())
    connection = sqlite3.connect(target, isolation_level=None)
    connection.execute("begin immediate")
    connection.execute("update studies set study_name = 'x'")
    with pytest.raises(OutputError, match=r"written by another program: .*x\.db-journal"):
        write(study, target)
    connection.execute("rollback")
    connection.close()
    write(study, target)


@pytest.mark.slow
def test_optuna_draws_it(database: Path) -> None:
    pytest.importorskip("plotly")
    found = opened(database)
    front = optuna.visualization.plot_pareto_front(found)
    assert len(front.data[-1].x) == len(found.best_trials) > 0
    history = optuna.visualization.plot_optimization_history(found, target=lambda t: t.values[0], target_name="robust")
    assert len(history.data[0].x) == 8
    assert optuna.visualization.plot_parallel_coordinate(found, target=lambda t: t.values[0], target_name="robust").data


@pytest.mark.slow
def test_the_dashboard_serves_it(database: Path) -> None:
    program = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("optuna-dashboard is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, f"sqlite:///{database}", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        (summary,) = _asked(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        assert summary["study_name"] == "synthetic"
        shown = _asked(f"http://127.0.0.1:{port}/api/studies/{summary['study_id']}")
    finally:
        server.terminate()
        server.wait(30)
    assert shown["objective_names"] == ["robust_accuracy", "sparsity"]
    assert [trial["state"] for trial in shown["trials"]] == [
        re.sub("^(.)(.*)$", lambda part: part[1] + part[2].lower(), trial.state.name)
        for trial in opened(database).trials
    ]
    for trial, stored in zip(shown["trials"], opened(database).trials, strict=True):
        assert trial.get("values") == stored.values
        assert trial["constraints"] == ([stored.constraints["clean_accuracy"]] if stored.values else [])
        assert {each["name"]: each["param_external_value"] for each in trial["params"]} == {
            name: str(value) for name, value in stored.params.items()
        }


def _asked(url: str) -> Any:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=30) as reply:
                return json.load(reply)
        except ConnectionError:
            time.sleep(0.3)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            time.sleep(0.3)
    raise AssertionError("the server does not answer")
