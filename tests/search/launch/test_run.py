"""A launch in this process, from end to end: what it leaves, how it ends, what it refuses before the first trial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest
from click.testing import Result

from search.cluster.inline import Inline, InlineConnection
from search.launch import run
from search.launch.driver import Driver
from search.objectives.pareto import nondominated
from search.objectives.values import values
from search.results.study import Study
from search.store import driver_lock
from search.store.records import Records
from tests.search import command
from tests.search.tiny import EARLY, TINY, conclusion, numbers, outcomes, params, states
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.store import paths
from trainables.store.lease import STALE_AFTER, Holder, Lease
from trainables.store.storage import Storage

Launch = Callable[..., Result]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The directory of the study that the file `tiny.yaml` describes."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "runs" / "tiny"


@pytest.fixture
def launch(tmp_path: Path, study: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Launch `tiny.yaml`, or what is named, without Ray."""
    monkeypatch.chdir(tmp_path)

    def launch(*arguments: str, code: int = 0) -> Result:
        named = arguments if arguments and not arguments[0].startswith("--") else ("tiny.yaml", *arguments)
        done = command.run("launch", *named, "--cluster", "inline")
        assert done.exit_code == code, done.output
        return done

    return launch


@pytest.mark.slow
def test_where_else_trials_can_be_watched_is_said_when_it_is_known(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []

    def views(self: InlineConnection) -> Iterator[str]:
        calls.append(True)
        if len(calls) == 2:
            yield "another view"

    monkeypatch.setattr(InlineConnection, "views", views)
    monkeypatch.setattr(run, "ALONE_SECONDS", -1.0)
    said = launch().stderr
    assert said.count("another view\n") == 1
    assert said.index("another view") > said.index("4 trials, 1 at once"), "the first call precedes the trials"


@pytest.mark.slow
def test_a_launch_ends_with_a_front_and_can_be_extended(launch: Launch, study: Path, tmp_path: Path) -> None:
    done = launch()
    assert "4 of 4 trials complete" in done.stderr
    found = Study.open(str(study))
    rows = found.points()
    assert sorted(outcomes(study)) == numbers(4)
    assert len(rows) > 4, "networks on the way to a sparsity are points too"
    judged = [values(row, found.spec) for row in rows]
    brute = {
        row.point
        for row, mine in zip(rows, judged, strict=True)
        if not any(all(b >= a for a, b in zip(mine, o, strict=True)) and o != mine for o in judged)
    }
    assert {row.point for row in found.front()} == brute
    assert sum(nondominated(judged)) == len(brute)
    for name in brute:
        assert name in done.stdout
    before = outcomes(study)
    assert json.loads(launch("tiny", "--trials", "+2", "--json").stdout)
    after = outcomes(study)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    target = tmp_path / "points.parquet"
    assert command.run("export", "tiny", "--format", "parquet", "--what", "points", "--output", target).exit_code == 0
    assert pq.read_table(target).num_rows == len(Study.open(str(study)).points())


@pytest.mark.slow
def test_a_study_that_is_extended_equals_one_that_was_long_from_the_start(launch: Launch, tmp_path: Path) -> None:
    for name, lengths in (("parts", ("5", "+3")), ("whole", ("8",))):
        # Each in a storage of its own: beside another study, its stages would be taken over.
        place = tmp_path / f"of-{name}"
        for trials in lengths:
            before = outcomes(place / name)
            launch("--name", name, "--trials", trials, "--storage", str(place))
            after = outcomes(place / name)
            assert {number: after[number] for number in before} == before
    parts, whole = (Study.open(str(tmp_path / f"of-{name}" / name)) for name in ("parts", "whole"))
    assert [trial.params for trial, _ in parts.records.trials()] == [t.params for t, _ in whole.records.trials()]
    found = [[(p.point, p.measured.weights_sha256, p.measured.verdicts) for p in s.points()] for s in (parts, whole)]
    assert found[0] == found[1]
    assert len(parts.records.trials()) == 8


@pytest.mark.slow
def test_a_search_without_a_feasible_point_says_so(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY + "constraints: {clean_accuracy: '>= 1.0'}\n")
    done = launch("--trials", "2", "--json", code=3)
    shown = json.loads(done.stdout)
    assert shown["front"] == []
    assert shown["error"]["exit_code"] == 3
    assert "no feasible point: 2 of 2 trials complete" in conclusion(done.stderr)
    front = command.run("front", "tiny", "--json")
    assert front.exit_code == 3
    assert len(json.loads(front.stdout)["least_violating"]) > 0


@pytest.mark.slow
def test_launch_and_status_say_which_share_of_the_parameters_is_prunable(launch: Launch) -> None:
    done = launch("--trials", "1")
    assert "lenet300: 1,184 of 1,210 parameters (97.8 %) are prunable" in done.stderr
    found = json.loads(command.run("status", "tiny", "--json").stdout)["networks"]
    assert found == [{"model": "lenet300", "prunable": 1184, "parameters": 1210, "outside": {}, "weights_outside": 0}]
    assert "1,184 of 1,210" in command.run("status", "tiny").stdout


class Hopeless(Model):
    """A network that runs on the few images of the probe, and on no more."""

    kind: Literal["hopeless"] = "hopeless"

    def network(self, shape: tuple[int, int, int], classes: int) -> Any:
        from math import prod

        from torch import Tensor, nn

        class Broken(nn.Linear):
            def forward(self, x: Tensor) -> Tensor:
                if len(x) > 2:
                    raise RuntimeError("this network cannot be run")
                return super().forward(x.flatten(1))

        return Broken(prod(shape), classes)


@pytest.fixture
def hopeless(tmp_path: Path, study: Path, monkeypatch: pytest.MonkeyPatch) -> type[Hopeless]:
    """The study with a model that is registered for the length of a test."""
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))
    MODELS.register("hopeless", Hopeless)
    text = TINY.replace("model: {kind: lenet300, hidden: [16]}", "model: hopeless")
    assert text != TINY
    (tmp_path / "tiny.yaml").write_text(text)
    return Hopeless


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ("20", "the first 3 trials all failed (bug): this network cannot be run"),
        ("1", "too many trials failed: 0 of 1 trials complete, 1 failed"),
    ],
)
def test_trials_that_all_fail_alike_end_the_search_early(
    hopeless: type[Hopeless], launch: Launch, study: Path, trials: str, message: str
) -> None:
    done = launch("--trials", trials, code=4)
    assert message in conclusion(done.stderr)
    assert len(outcomes(study)) == min(3, int(trials))


def test_a_network_that_cannot_be_built_is_refused_before_the_first_trial(
    hopeless: type[Hopeless], launch: Launch, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Hopeless, shape: tuple[int, int, int], classes: int) -> Any:
        raise ValueError("no such shape")

    monkeypatch.setattr(hopeless, "network", refuse)
    done = launch(code=2)
    assert "the network hopeless cannot be built: ValueError: no such shape" in conclusion(done.stderr)
    assert not study.exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("protocol.examples=90000", "protocol.examples: 90000, but data.validation holds back"),
        ("recipe.train.select=90000", "recipe.train.select: 90000 of"),
        ("recipe.prune.pruner=slimming", "needs a network whose layers have batch norms"),
    ],
)
def test_what_the_data_or_the_network_do_not_allow_is_refused_before_the_first_trial(
    launch: Launch, study: Path, setting: str, message: str
) -> None:
    done = launch("--set", setting, code=2)
    assert message in conclusion(done.stderr)
    assert not study.exists()


@pytest.mark.slow
def test_a_study_that_changed_is_refused_before_its_cluster_starts(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch("--trials", "1")
    monkeypatch.setattr(Inline, "connect", lambda *_: pytest.fail("the study is compared first"))
    done = launch("--trials", "1", "--set", "protocol.eps=0.2", code=2)
    assert "protocol.eps: was 0.1, is 0.2" in done.stderr


KILLED = """
import os, signal, sys
from collections import Counter
from search.launch.api import launch

def view(snapshot):
    if snapshot.stopped >= 1 and snapshot.finished >= 5:
        os.kill(os.getpid(), signal.SIGKILL)

from search.launch import inline
inline.VIEW_SECONDS = 0.0
launch("tiny.yaml", cluster="inline", trials=14, storage="runs", view=view)
"""


@pytest.mark.slow
def test_some_trials_stop_the_launch_ends_well_and_resumes_after_a_kill(
    launch: Launch, study: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(EARLY)
    killed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = outcomes(study)
    assert len(before) >= 5
    assert states(study)["stopped"] >= 1
    done = launch("--trials", "14")
    after = outcomes(study)
    assert {name: after[name] for name in before} == before
    assert len(after) == 14
    count = states(study)
    assert count["stopped"] + count["complete"] == 14
    assert min(count["stopped"], count["complete"]) >= 2
    assert f"{count['complete']} of 14 trials complete, {count['stopped']} stopped early, 0 failed" in done.stderr

    ended = {name: json.loads(content) for name, content in after.items()}
    stopped = {name: outcome for name, outcome in ended.items() if outcome["state"] == "stopped"}
    for outcome in stopped.values():
        assert outcome["rungs"] or outcome["points"]
        assert outcome["failure"] is None
        assert outcome["params"]
    read = Study.open(str(study))
    assert read.summary().stopped == len(stopped)
    assert not {row.trial for row in read.points()} & {int(name) for name in stopped}
    assert not {row.trial for row in read.front()} & {int(name) for name in stopped}
    assert _observed(study)["stopped"] == len(stopped)
    assert sorted(params(study)) == numbers(14)


def _observed(study: Path) -> Counter[str]:
    """Count the trials that a new driver's sampler sees, by state."""
    driver = Driver(Records.open(Storage(str(study))))
    return Counter(row.state for row in driver._sampling.observations if row.origin == "own")


def held(study: Path, silent: float) -> Path:
    """Leave the lease of a launch on another machine, of which nothing has been heard for so many seconds."""
    holder = replace(Holder.here(), host="node-7", machine="another", heartbeat=time.time() - silent)
    study.mkdir(parents=True)
    path = study / paths.DRIVER
    path.write_text(json.dumps(asdict(holder)))
    return path


@pytest.mark.slow
def test_a_launch_waits_for_the_lease_of_one_that_may_be_dead(launch: Launch, study: Path) -> None:
    held(study, silent=STALE_AFTER - 1.5)
    done = launch("--trials", "1", "--wait", "60")
    assert f"waiting up to 60 s for the lease of {study}: process" in done.stderr
    assert "on node-7, started" in done.stderr
    assert "it counts as dead 60 s after its last sign of life, which is 5" in done.stderr
    assert "took over the study from process" in done.stderr
    assert "1 of 1 trials complete" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("wait", "ending"), [((), ""), (("--wait", "1"), "; waited 1 s")])
def test_a_lease_that_is_held_to_the_end_of_the_wait_is_refused(
    launch: Launch, study: Path, wait: tuple[str, ...], ending: str
) -> None:
    path = held(study, silent=1.0)
    before = path.read_text()
    done = launch(*wait, code=5)
    assert f"/{paths.DRIVER}){ending}" in conclusion(done.stderr)
    assert [file.name for file in study.iterdir()] == [paths.DRIVER]
    assert path.read_text() == before


@pytest.mark.slow
def test_a_signal_ends_the_wait_for_a_lease(launch: Launch, study: Path) -> None:
    held(study, silent=1.0)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    done = launch("--wait", "60", code=143)
    timer.join()
    assert conclusion(done.stderr) == "stopped before the first trial; the same command starts it"


def test_a_request_to_stop_ends_the_wait_for_a_lease(
    launch: Launch, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(study, silent=1.0)
    acquire = driver_lock.acquire

    def asked_meanwhile(storage: Storage) -> Lease:
        try:
            return acquire(storage)
        finally:
            driver_lock.request_stop(storage)

    monkeypatch.setattr(driver_lock, "acquire", asked_meanwhile)
    done = launch("--wait", "60", code=130)
    assert conclusion(done.stderr) == "stopped before the first trial; the same command starts it"


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
def test_a_wait_is_a_number_of_seconds(launch: Launch, seconds: str) -> None:
    assert "--wait" in conclusion(launch("--wait", seconds, code=2).stderr)
