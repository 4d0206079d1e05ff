"""Launches on a cluster that runs already: what they refuse, survive and find out, and that they equal inline ones."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import psutil
import pytest
from click.testing import Result

from benchmarks.kill_loop import PLUGIN
from benchmarks.nodes import Nodes, free_port
from search.cluster import auto
from search.results.study import Study
from search.store import check
from tests.integration.waiting import wait_for
from tests.search import command
from tests.search.tiny import EARLY, TINY, conclusion, numbers, outcomes, params, states
from trainables.models import MODELS
from trainables.store import paths
from trainables.store.storage import Storage

# What Ray and Tune warn of, in this process, is theirs.
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

Launch = Callable[..., Result]
Shared = Callable[..., str]
Start = Callable[..., "subprocess.Popen[str]"]


@contextmanager
def meanwhile(do: Callable[[], object]) -> Iterator[None]:
    """Run `do` beside the block, and raise what it raised."""
    raised: list[BaseException] = []

    def act() -> None:
        try:
            do()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gpus_per_trial": 8}, "no node has what one trial asks for (1 CPU, 8 GPU)"),
        ({"cpus_per_trial": 3}, "no node has what one trial asks for (3 CPU)"),
        ({"concurrency": 4}, "concurrency 4 does not fit"),
        (
            {"accelerator": "A100", "gpus_per_trial": 1},
            "no node has what one trial asks for (1 CPU, 1 GPU of type A100); the nodes have: 2 CPU",
        ),
        ({"nodes": 2, "start_timeout": 2}, "1 of 2 nodes is alive; waited 2 s"),
        ({"token_file": "nowhere"}, "token file nowhere does not exist"),
        ({"address": "unused"}, "no Ray cluster answers at"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line_before_anything_starts(
    launch_here: Launch, tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    if "address" in fields:
        fields = {"address": f"127.0.0.1:{free_port()}"}
    done = launch_here(exits=6, **fields)
    assert message in conclusion(done.stderr)
    assert not list((tmp_path / "runs").glob("tiny/*")), "something was left behind"


def test_auto_finds_a_cluster_with_a_directory_of_its_own(
    cluster: Nodes, shared: Shared, launch_here: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray gives a node at 127.0.0.1 the address of its machine, where it knows one.
    port = cluster.address.rpartition(":")[2]
    own, *others = sorted(auto.running(), key=lambda each: not each.endswith(f":{port}"))
    if others:
        pytest.skip(f"another Ray cluster runs on this machine: {', '.join(others)}")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # `doctor` sets both.
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.token))
    done = launch_here("tiny.yaml", "--trials", "1", address="auto")
    assert own.endswith(f":{port}")
    assert f"connecting to the Ray cluster at {own} ..." in done.stderr
    found = command.run("doctor", "--cluster", shared(address="auto"), "--json")
    said = {each["subject"]: each for each in json.loads(found.stdout)["findings"]}
    assert said["cluster"]["message"] == "the Ray cluster at auto answers: 1 node, room for 2 trials at once"
    assert (said["session folder"]["level"], str(cluster.folder) in said["session folder"]["message"]) == ("ok", True)


def test_a_launch_waits_for_nodes_and_probes_each_kind(
    cluster: Nodes, launch_here: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with meanwhile(lambda: cluster.add(cpus=1)):
        done = launch_here("tiny.yaml", "--trials", "1", nodes=2, start_timeout=120)
    leave(cluster)
    assert "probing a node of each of 2 kinds" in done.stderr
    assert "tiny: 1 trial, 3 at once" in done.stderr
    assert "caution" not in done.stderr


def leave(cluster: Nodes) -> None:
    """Let the node leave that has joined last."""
    raylet = cluster.raylets()[-1]
    raylet.terminate()
    raylet.wait(60)


def test_a_wrong_token_is_said_in_one_line(shared: Shared, start: Start, study_file: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(secrets.token_hex(32))
    # In a process of its own: Ray reads a token once in the life of a process.
    launch = start("launch", str(study_file), "--cluster", shared(token_file=str(wrong)))
    _, err = launch.communicate(timeout=120)
    assert launch.returncode == 6, err
    assert "token" in conclusion(err)
    assert not list((tmp_path / "runs").glob("tiny/*")), "something was left behind"


def test_what_a_worker_refuses_ends_the_launch_with_the_workers_exit_code(launch_here: Launch, tmp_path: Path) -> None:
    done = launch_here("tiny.yaml", "--set", "recipe.prune.pruner=slimming", exits=2)
    assert "needs a network whose layers have batch norms" in conclusion(done.stderr)
    assert not (tmp_path / "runs" / "tiny").exists()


def test_code_is_shipped_to_workers_that_have_the_dependencies_only(
    bare_python: str | None, launch_here: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bare_python is None:
        pytest.skip("the project is installed as a copy; only an editable install can be left out")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    missing = subprocess.run(
        [bare_python, "-c", "import torch, ray, trainables"], capture_output=True, text=True, cwd=tmp_path
    )
    assert "No module named 'trainables'" in missing.stderr
    refused = launch_here(exits=6, code="installed")
    assert "code: ship" in conclusion(refused.stderr)
    assert not (tmp_path / "runs" / "tiny").exists()
    shipped = launch_here("tiny.yaml", "--trials", "2", code="ship")
    assert "2 of 2 trials complete" in conclusion(shipped.stderr)


KILLED = (
    TINY.replace("epochs: 4", "epochs: 40\n  sparsity: 0.0")
    .replace("  recipe.sparsity: {kind: float, low: 0.0, high: 0.9}\n", "")
    .replace(
        "budget: {trials: 4}",
        "enqueue: [{recipe.train.eps: 0.05}, {recipe.train.eps: 0.1}]\n"
        "budget: {trials: 2}\nmax_failures: 1\nplugins: [counted_epochs]",
    )
)


class Epochs:
    """The epochs that trials have trained, as the plug-in writes them down."""

    def __init__(self, folder: Path, cluster: Nodes, launch: subprocess.Popen[str]) -> None:
        self._log = folder / "epochs.log"
        self._cluster = cluster
        self._launch = launch

    def lines(self) -> list[str]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [line for line in lines if line.startswith("epoch")]

    def repeated(self) -> int:
        return len(self.lines()) - len(set(self.lines()))

    def worker_after(self, count: int) -> psutil.Process:
        """Wait for so many epochs more, and return the process that trained the last."""
        before = len(self.lines())
        wait_for(lambda: len(self.lines()) >= before + count or self._launch.poll() is not None, 120)
        assert self._launch.poll() is None, self._launch.communicate()
        (found,) = self._cluster.workers("tiny")
        return found


def test_a_preempted_worker_costs_nothing_and_a_killed_one_a_failure_of_its_trial(
    cluster: Nodes, shared: Shared, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "counted_epochs.py").write_text(PLUGIN % {"log": str(tmp_path / "epochs.log"), "pause": 0.2})
    (tmp_path / "tiny.yaml").write_text(KILLED)
    study = tmp_path / "runs" / "tiny"
    launch = start("launch", "tiny.yaml", "--cluster", shared(concurrency=1))
    epochs = Epochs(tmp_path, cluster, launch)
    for _ in range(2):
        epochs.worker_after(4).send_signal(signal.SIGTERM)
    epochs.worker_after(4)
    assert epochs.repeated() == 0, "a preempted worker saves its last epoch"
    epochs.worker_after(1).kill()
    wait_for(lambda: (study / paths.outcome(0)).exists(), 120)
    repeated = epochs.repeated()
    assert repeated <= 5, "killed, it resumes from its last save, which is at most a second old here"
    for _ in range(2):
        epochs.worker_after(2).kill()
    out, err = launch.communicate(timeout=200)
    assert launch.returncode == 0, out + err
    first, second = (json.loads((study / paths.outcome(number)).read_bytes()) for number in range(2))
    assert (first["state"], first["failure"]) == ("complete", None)
    assert (second["state"], second["failure"]["kind"]) == ("failed", "crashed")
    assert "1 of 2 trials complete, 1 failed" in conclusion(err)


MODEL = """
from typing import Literal
from trainables.models import MODELS
from trainables.models.lenet import LeNet300


class OfAPlugin(LeNet300):
    kind: Literal["of_a_plugin"] = "of_a_plugin"


MODELS.register("of_a_plugin", OfAPlugin)
"""


@pytest.fixture
def with_plugin(study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A study with early stopping and a model of a plug-in, which is forgotten afterwards."""
    (tmp_path / "one_model.py").write_text(MODEL)
    text = EARLY.replace("{kind: lenet300,", "{kind: of_a_plugin,") + "plugins: [one_model]\n"
    study_file.write_text(text)
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("one_model", None)


def _scrape(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


@pytest.mark.usefixtures("with_plugin")
def test_trials_stop_early_metrics_are_published_and_stop_ends_the_launch(
    cluster: Nodes, launch_here: Launch, tmp_path: Path
) -> None:
    study = tmp_path / "runs" / "tiny"
    with meanwhile(lambda: wait_for(lambda: "robustsearch_trials" in _scrape(cluster.metrics), 120)):
        done = launch_here("tiny.yaml", "--trials", "14")
    assert "14 trials, 2 at once" in done.stderr
    before, count = outcomes(study), states(study)
    assert sorted(before) == numbers(14)
    assert count["stopped"] + count["complete"] == 14
    assert min(count["stopped"], count["complete"]) >= 1
    assert f"{count['complete']} of 14 trials complete, {count['stopped']} stopped early, 0 failed" in done.stderr
    assert Study.open(str(study)).summary().stopped == count["stopped"]

    def stop() -> None:
        wait_for(lambda: len(outcomes(study)) >= 16, 120)
        script = Path(sys.executable).parent / "robustsearch"
        subprocess.run([script, "stop", "tiny"], cwd=tmp_path, check=True, capture_output=True)

    issued = params(study)
    with meanwhile(stop):
        done = launch_here("tiny", "--trials", "500", exits=130)
    assert conclusion(done.stderr).startswith("stopped: ")
    assert "`robustsearch launch` with the same study resumes it in" in conclusion(done.stderr)
    assert "Traceback" not in done.output
    assert not (study / "driver.json").exists()
    after = outcomes(study)
    assert {name: after[name] for name in before} == before
    assert {name: params(study)[name] for name in issued} == issued
    assert set(states(study)) == {"complete", "stopped"}


def test_one_trial_at_a_time_equals_a_launch_without_ray(launch_here: Launch, tmp_path: Path) -> None:
    launch_here("tiny.yaml", "--trials", "8", "--storage", "with", concurrency=1)
    done = command.run("launch", "tiny.yaml", "--trials", "8", "--storage", "without", "--cluster", "inline")
    assert done.exit_code == 0, done.output
    with_ray, without = (Study.open(str(tmp_path / place / "tiny")) for place in ("with", "without"))
    assert [trial.params for trial, _ in with_ray.records.trials()] == [t.params for t, _ in without.records.trials()]
    found = [
        [(p.point, p.measured.weights_sha256, p.measured.verdicts) for p in s.points()] for s in (with_ray, without)
    ]
    assert found[0] == found[1]
    assert len(with_ray.records.trials()) == 8


def test_a_full_disk_ends_the_launch_with_everything_valid_and_it_resumes_when_there_is_room(
    disk: Path, launch_here: Launch
) -> None:
    study = disk / "tiny"
    full = launch_here("tiny.yaml", "--trials", "30", "--storage", str(disk), exits=5)
    assert "No space left on device" in conclusion(full.stderr)
    assert "Traceback" not in full.output
    before = outcomes(study)
    assert states(study).keys() <= {"complete"}, "a full disk is not a result"
    assert [fault for fault in check.faults(Storage(str(study))) if not fault.harmless] == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True, capture_output=True, timeout=30)
    total = str(len(before) + 2)
    again = command.run("launch", "tiny.yaml", "--trials", total, "--storage", disk, "--cluster", "inline")
    assert again.exit_code == 0, again.output
    after = outcomes(study)
    assert {name: after[name] for name in before} == before
    assert states(study).keys() == {"complete"}


def test_a_storage_that_vanishes_ends_the_launch_and_is_not_made_anew(launch_here: Launch, tmp_path: Path) -> None:
    study = tmp_path / "runs" / "tiny"

    def move() -> None:
        wait_for(lambda: len(outcomes(study)) >= 1, 120)
        (tmp_path / "runs").rename(tmp_path / "elsewhere")

    with meanwhile(move):
        done = launch_here("tiny.yaml", "--trials", "500", exits=5)
    assert str(study) in conclusion(done.stderr)
    assert not list(study.glob("trials/*/*.json")), "no study is begun in its place"
    assert check.faults(Storage(str(tmp_path / "elsewhere" / "tiny"))) is not None


@pytest.fixture
def another(cluster: Nodes) -> Iterator[Callable[[str], None]]:
    """One more node, the only one with three cores, on which something else is mounted, by a command of the shell."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    joined: list[str] = []

    def join(mounts: str) -> None:
        joined.append(mounts)
        cluster.add("unshare", "--mount", "sh", "-c", f'{mounts}; exec "$@"', "sh", cpus=3)

    yield join
    for _ in joined:
        leave(cluster)


def test_nodes_that_would_measure_something_else_are_found_before_the_first_trial(
    another: Callable[[str], None], launch_here: Launch, tmp_path: Path
) -> None:
    storage, other = tmp_path / "runs", tmp_path / "digits.csv.gz"
    storage.mkdir()
    digits = Path(str(files("sklearn.datasets.data"))) / "digits.csv.gz"
    first, *rows = gzip.decompress(digits.read_bytes()).splitlines(keepends=True)
    other.write_bytes(gzip.compress(b"".join([rows[0], *rows])))
    assert first != rows[0]
    another(f"mount --bind {other} {digits}")
    done = launch_here(exits=6)
    assert "the training data differ: " in conclusion(done.stderr)
    assert not (storage / "tiny").exists()


@pytest.mark.parametrize("fields", [{}, {"cpus_per_trial": 3}], ids=["a node of two", "the only node"])
def test_a_node_that_does_not_share_the_storage_is_found_before_the_first_trial(
    another: Callable[[str], None], launch_here: Launch, tmp_path: Path, fields: dict[str, object]
) -> None:
    storage = tmp_path / "runs"
    storage.mkdir()
    another(f"mount -t tmpfs tmpfs {storage}")
    done = launch_here(exits=6, **fields)
    assert conclusion(done.stderr).startswith(f"error: on {socket.gethostname()}")
    assert "is not the directory that the launch writes to" in conclusion(done.stderr)
    assert not (storage / "tiny").exists()
