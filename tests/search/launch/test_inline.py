"""Launches in this process: the way of a worker without Ray, and how such a launch stops, fails and resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from search.cluster.spec import ClusterError, Inline, load
from search.launch import api
from search.launch.driver import Snapshot
from search.results.study import Study
from search.store import driver_lock
from trainables.core.errors import ExitCode, SpecError
from trainables.store import paths
from trainables.store.lease import LeaseHeld
from trainables.store.storage import Storage

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": "digits",
    "model": {"kind": "lenet300", "hidden": [16]},
    "recipe": {
        "kind": "imp",
        "rate": 0.5,
        "epochs": 4,
        "rewind": "init",
        "train": {
            "batch": 256,
            "eps": 0.1,
            "optimiser": "adam",
            "attack": {"kind": "pgd", "steps": 1},
            "precision": "fp32",
        },
    },
    "space": {"recipe.sparsity": {"kind": "float", "low": 0.0, "high": 0.9}},
    "protocol": {"eps": 0.1, "examples": 50, "attack": {"kind": "pgd", "steps": 2}},
    "sampler": {"kind": "tpe", "n_startup_trials": 3},
    "budget": {"trials": 3},
}


def launch(storage: Path, study: Any = TINY, **options: Any) -> Study:
    return api.launch(study, cluster="inline", storage=storage, **{"quiet": True, **options})


def outcomes(study: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_bytes()) for path in sorted(study.glob("trials/*/outcome.json"))}


def ending(study: Study) -> tuple[int, str]:
    assert study.ending is not None
    return int(study.ending.exit_code), study.ending.message


def test_inline_and_local_are_names_of_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("inline") == Inline()
    assert load("local").kind == "local"
    (tmp_path / "inline").write_text("kind: local\n")
    assert load("inline").kind == "local", "a file of that name comes first"


def test_a_launch_ends_with_a_front_and_can_be_extended(tmp_path: Path) -> None:
    study = launch(tmp_path)
    assert ending(study)[0] == 0
    assert ending(study)[1].startswith("3 of 3 trials complete, 0 failed; ")
    assert study.front()
    first = outcomes(tmp_path / "tiny")
    assert [outcome["state"] for outcome in first.values()] == ["complete"] * 3
    assert not (tmp_path / "tiny" / paths.DRIVER).exists()
    extended = launch(tmp_path, "tiny", trials="+2")
    after = outcomes(tmp_path / "tiny")
    assert len(after) == 5 == extended.spec.budget.trials
    assert {number: after[number] for number in first} == first


RAY_FREE = """
import json, sys
import search
study = search.launch(json.loads(sys.argv[1]), cluster="inline", storage=sys.argv[2], trials=1)
print(study.ending.exit_code.name, "torch" in sys.modules, "ray" in sys.modules)
"""


@pytest.mark.slow
def test_ray_is_never_loaded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RAY_FREE, json.dumps(TINY), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["DONE", "True", "False"]


def test_a_second_launch_is_refused_while_one_is_at_work(tmp_path: Path) -> None:
    launch(tmp_path, trials=1)
    with driver_lock.acquire(Storage(str(tmp_path / "tiny"))), pytest.raises(LeaseHeld, match="is driven by process"):
        launch(tmp_path, trials=2)


def _at_first_point(do: Any) -> Any:
    """Return a view that acts once, in the middle of a trial."""
    done: list[None] = []

    def view(snapshot: Snapshot) -> None:
        if not done:
            done.append(None)
            do()

    return view


LONG = {**TINY, "recipe": {**TINY["recipe"], "epochs": 30}, "budget": {"trials": 50}}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (None, 130)]
)
def test_a_stopped_launch_saves_says_so_and_resumes(number: int | None, code: int, tmp_path: Path) -> None:
    own = Storage(str(tmp_path / "tiny"))

    def stop() -> None:
        if number is None:
            driver_lock.request_stop(own)
        else:
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGINT)
    study = launch(tmp_path, LONG, view=_at_first_point(stop))
    assert ending(study)[0] == code
    assert ending(study)[1].startswith("stopped: 0 of 50 trials complete, 0 failed; ")
    assert signal.getsignal(signal.SIGINT) is before
    assert outcomes(tmp_path / "tiny") == {}
    assert not own.exists(paths.DRIVER)
    params = [trial.params for trial, _ in study.records.trials()]
    resumed = launch(tmp_path, "tiny", trials=1)
    assert ending(resumed)[0] == 0
    assert [trial.params for trial, _ in resumed.records.trials()] == params
    (outcome,) = outcomes(tmp_path / "tiny").values()
    assert outcome["state"] == "complete"


def test_a_second_ctrl_c_ends_the_launch_at_once(tmp_path: Path) -> None:
    def stop() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    study = launch(tmp_path, LONG, view=_at_first_point(stop))
    assert ending(study)[0] == 130
    assert ending(study)[1].startswith("interrupted; ")
    assert not (tmp_path / "tiny" / paths.DRIVER).exists()


def test_a_stop_before_the_first_trial_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.cluster.inline import InlineConnection
    from search.launch.run import NotStarted

    monkeypatch.setattr(InlineConnection, "probe", lambda self, request, **more: None)
    with pytest.raises(NotStarted) as stopped:
        launch(tmp_path)
    assert stopped.value.exit_code == ExitCode.INTERRUPTED
    assert str(stopped.value) == "stopped before the first trial"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"protocol.examples": 90000}, "protocol.examples is 90000, but there are"),
        ({"recipe.train.select": 90000}, "recipe.train.select holds back 90000 of"),
    ],
)
def test_what_the_data_do_not_allow_is_refused_before_the_first_trial(
    setting: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        launch(tmp_path, overrides=setting)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_a_pruner_cannot_cut_is_refused_by_the_probe(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="batch norms") as refused:
        launch(tmp_path, overrides={"recipe.prune.pruner": "slimming"})
    assert refused.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


PLUGIN = """
from typing import Literal
from trainables.models import MODELS
from trainables.models.base import Model


class Hopeless(Model):
    kind: Literal["hopeless_inline"] = "hopeless_inline"

    def network(self, shape, classes):
        from math import prod

        from torch import nn

        class Broken(nn.Linear):
            def forward(self, x):
                if x.device.type != "meta":
                    raise RuntimeError("this network cannot be run")
                return super().forward(x.flatten(1))

        return Broken(prod(shape), classes)


MODELS.register("hopeless_inline", Hopeless)
"""


def test_trials_that_all_fail_alike_end_the_search_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hopeless_models.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    hopeless = {**TINY, "model": "hopeless_inline", "plugins": ["hopeless_models"], "budget": {"trials": 20}}
    code, message = ending(launch(tmp_path / "runs", hopeless))
    assert code == 4
    assert "the first 3 trials all failed (bug): this network cannot be run" in message
    found = outcomes(tmp_path / "runs" / "tiny")
    assert len(found) == 3
    assert {outcome["failure"]["kind"] for outcome in found.values()} == {"bug"}


def test_no_feasible_point_is_said(tmp_path: Path) -> None:
    study = launch(tmp_path, {**TINY, "constraints": {"clean_accuracy": ">= 1.0"}}, trials=1)
    code, message = ending(study)
    assert code == 3
    assert message.startswith("no feasible point: 1 of 1 trials complete")
    assert study.front() == []
    assert study.infeasible()


def test_the_wall_time_ends_a_launch(tmp_path: Path) -> None:
    code, message = ending(launch(tmp_path, {**LONG, "budget": {"trials": 50, "wall_time": 0.01}}))
    assert code == 3
    assert message.startswith("the wall time of 0.01 s is spent: ")


@pytest.mark.slow
def test_trials_are_stopped_early_and_screened_as_on_a_worker(tmp_path: Path) -> None:
    early = {
        **TINY,
        "early_stopping": {"kind": "moasha", "eta": 2, "grace": 1, "max_rungs": 3, "examples": 20, "steps": 1},
        "screening": {"examples": 20, "steps": 1},
        "budget": {"trials": 10},
    }
    launch(tmp_path, early)
    found = outcomes(tmp_path / "tiny").values()
    states = [outcome["state"] for outcome in found]
    assert set(states) == {"complete", "stopped"}
    assert any(outcome["rungs"] for outcome in found)


def test_gpus_that_torch_does_not_see_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="a trial asks for 64 GPUs, torch sees"):
        api.launch(TINY, cluster={"kind": "inline", "gpus_per_trial": 64}, storage=tmp_path, quiet=True)
    assert list(tmp_path.iterdir()) == []


DEBUGGED = """
import json, sys
import search
from trainables.models.lenet import LeNet300

network = LeNet300.network

def stopping(self, shape, classes):
    breakpoint()
    return network(self, shape, classes)

LeNet300.network = stopping
study = search.launch(json.loads(sys.argv[1]), cluster="inline", storage=sys.argv[2], trials=1, quiet=True)
print(study.ending.exit_code.name)
"""


@pytest.mark.slow
def test_a_breakpoint_in_a_model_stops_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DEBUGGED, json.dumps(TINY), str(tmp_path)],
        input="print('hidden', self.hidden)\ncontinue\nquit\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hidden (16,)" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("INTERRUPTED"), "leaving the debugger ends the launch, not the trial"
    assert outcomes(tmp_path / "tiny") == {}
    assert not (tmp_path / "tiny" / paths.DRIVER).exists()
