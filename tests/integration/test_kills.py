"""Processes killed at the worst moments, one by one and in a random loop: nothing that was finished is lost."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.kill_loop import PLUGIN, Loop
from benchmarks.nodes import title
from search.launch.driver import Driver
from search.store.records import Records
from tests.integration.waiting import wait_for
from tests.search import factories
from tests.search.tiny import TINY
from trainables.store import paths
from trainables.store.storage import Storage

ROOT = Path(__file__).parents[2]
Start = Callable[..., "subprocess.Popen[str]"]


def killed(code: str, *arguments: str) -> None:
    """Run code in a process that ends by SIGKILL."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


BETWEEN_RENAME_AND_TELL = """
import os, signal, sys
from pathlib import Path
from search.launch.driver import Driver
from search.store.records import Records
from search.launch.ask_tell import Sampling
from tests.search import factories
from trainables.store.storage import Storage

driver = Driver(Records.open(Storage(sys.argv[1])))
Sampling.tell = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
record = driver.next()
asked = record.params["recipe.sparsity"]
factories.finish(driver, record.number, factories.point(robust_accuracy=0.9 - asked / 2, sparsity=asked))
"""


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
@pytest.mark.slow
def test_a_driver_killed_between_an_outcome_and_the_sampler_proposes_the_same_trials(
    tmp_path: Path, sampler: str
) -> None:
    def step(driver: Driver) -> float:
        record = driver.next()
        assert record is not None
        asked = float(record.params["recipe.sparsity"])
        factories.finish(driver, record.number, factories.point(robust_accuracy=0.9 - asked / 2, sparsity=asked))
        return asked

    settings = {"budget": {"trials": 8}, "sampler": sampler}
    whole = Driver(factories.sparsity_records(tmp_path / "whole", **settings))
    expected = [step(whole) for _ in range(8)]
    place = tmp_path / "killed"
    first = Driver(factories.sparsity_records(place, **settings))
    for _ in range(5):
        step(first)
    killed(BETWEEN_RENAME_AND_TELL, str(place))
    records = Records.open(Storage(str(place)))
    assert records.unfinished() == []
    second = Driver(records)
    found = [trial.params["recipe.sparsity"] for trial, _ in records.trials()]
    found += [step(second) for _ in range(2)]
    assert found == expected


WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
from tests.trainables.factories import run, trial
from trainables.store import storage
from trainables.worker import run as running

running.SAVE_SHARE, running.FIRST_SAVE_SECONDS = 1e9, 0.0
real, saved = os.replace, []

def replace(source, target):
    if "progress-" in str(target):
        saved.append(target)
        if len(saved) == 3:
            if sys.argv[2] == "torn":
                open(target, "wb").write(open(source, "rb").read()[:100])
            os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)

os.replace = replace
list(run(trial(epochs=6, sparsity=0.5), Path(sys.argv[1])).progress())
"""


@pytest.mark.parametrize("what", ["whole", "torn"])
@pytest.mark.slow
def test_a_worker_killed_while_it_saves_goes_on_at_the_save_before(tmp_path: Path, what: str) -> None:
    from tests.trainables.factories import points, run, trial

    place = tmp_path / "killed"
    killed(WHILE_SAVING, str(place), what)
    names = sorted(path.name for path in place.glob("stages/*/progress-*"))
    assert f"{paths.PROGRESS}000002.safetensors" in names
    if what == "torn":
        assert f"{paths.PROGRESS}000003.safetensors" in names
    else:
        assert [name for name in names if name.endswith(paths.TEMPORARY)], "the file that was never renamed"
    spec = trial(epochs=6, sparsity=0.5)
    reports = list(run(spec, place).progress())
    assert [report.epoch.epoch for report in reports if report.epoch][:4] == [3, 4, 5, 6]
    whole = points(run(spec, tmp_path / "whole").progress())
    assert [p.weights_sha256 for p in points(iter(reports))] == [p.weights_sha256 for p in whole]


SLOW = TINY.replace("budget: {trials: 4}", "budget: {trials: 1}\nmax_failures: %d\nplugins: [counted_epochs]").replace(
    "epochs: 4", "epochs: 40"
)


@pytest.fixture
def slow(tmp_path: Path) -> Callable[[int], Path]:
    """A study of one trial with epochs of a fifth of a second, each of which is written down."""

    def write(max_failures: int) -> Path:
        (tmp_path / "counted_epochs.py").write_text(PLUGIN % {"log": str(tmp_path / "epochs.log"), "pause": 0.2})
        (tmp_path / "tiny.yaml").write_text(SLOW % max_failures)
        return tmp_path / "tiny.yaml"

    return write


def epochs(folder: Path) -> list[str]:
    log = folder / "epochs.log"
    return [line for line in log.read_text().splitlines() if line.startswith("epoch")] if log.exists() else []


def worker_after(launch: subprocess.Popen[str], folder: Path, count: int) -> psutil.Process:
    """Wait for so many epochs more, and return the process that trained the last."""
    before = len(epochs(folder))
    wait_for(lambda: len(epochs(folder)) >= before + count, 120)
    family = psutil.Process(launch.pid).children(recursive=True)
    (found,) = [process for process in family if title(process).startswith("ray::tiny-00000")]
    return found


def ended(folder: Path) -> tuple[str, str | None]:
    outcome = json.loads((folder / "runs" / "tiny" / paths.outcome(0)).read_bytes())
    return outcome["state"], (outcome["failure"] or {}).get("kind")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_worker_that_is_told_to_go_costs_nothing_and_one_that_is_killed_one_failure(
    start: Start, slow: Callable[[int], Path], tmp_path: Path
) -> None:
    launch = start("launch", str(slow(1)), "--set", "recipe.sparsity=0.0")
    for _ in range(2):
        worker_after(launch, tmp_path, 4).send_signal(signal.SIGTERM)
    worker_after(launch, tmp_path, 4)
    assert len(epochs(tmp_path)) == len(set(epochs(tmp_path))), "told to go, a worker saves its last epoch"
    worker_after(launch, tmp_path, 1).kill()
    out, err = launch.communicate(timeout=300)
    assert launch.returncode == 0, out + err
    assert ended(tmp_path) == ("complete", None)
    repeated = len(epochs(tmp_path)) - len(set(epochs(tmp_path)))
    assert repeated <= 5, "killed, it goes on at its last save, which is at most a second old here"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_worker_that_is_killed_more_often_than_allowed_fails_its_trial(
    start: Start, slow: Callable[[int], Path], tmp_path: Path
) -> None:
    launch = start("launch", str(slow(0)), "--set", "recipe.sparsity=0.0")
    worker_after(launch, tmp_path, 2).kill()
    out, err = launch.communicate(timeout=300)
    assert launch.returncode == 4, out + err
    assert ended(tmp_path) == ("failed", "crashed")
    assert "too many trials failed: 0 of 1 trials complete, 1 failed" in err.splitlines()[-2]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.parametrize("process", ["gcs_server", "raylet"])
def test_a_launch_whose_ray_dies_says_so_and_can_go_on(
    start: Start, slow: Callable[[int], Path], tmp_path: Path, process: str
) -> None:
    launch = start("launch", str(slow(0)), "--set", "recipe.sparsity=0.0")
    worker_after(launch, tmp_path, 2)
    start.remember()  # type: ignore[attr-defined]
    (vital,) = [child for child in psutil.Process(launch.pid).children() if child.name() == process]
    vital.kill()
    out, err = launch.communicate(timeout=120)
    assert launch.returncode == 6, out + err
    assert "the Ray cluster has died" in err
    study = tmp_path / "runs" / "tiny"
    assert not list(study.glob("trials/*/outcome.json")), "it is no failure of the trial"
    assert not (study / paths.DRIVER).exists()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = Loop(tmp_path, seed=random.randrange(10**6), trials=16, epochs=8)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1500)
def test_twenty_kills_at_random_times_lose_no_trial_and_repeat_none(loop: Loop) -> None:
    print(f"seed {loop.tally.seed}")
    kinds = random.Random(loop.tally.seed)
    while sum(loop.tally.kills.values()) < 20:
        if not loop.round(kinds.choice(("driver", "driver", "worker", "raylet")), print):
            loop.extend(8)  # The study has ended: it is made longer, which loses nothing either.
    assert loop.finish(600) == 0
    tally = loop.tally
    assert (tally.trials_lost, tally.trials_repeated, tally.parameters_changed) == (0, 0, 0)
    print(tally)
    states = [json.loads(path.read_bytes())["state"] for path in loop.study.glob("trials/*/outcome.json")]
    assert states == ["complete"] * loop.trials
    done = subprocess.run(
        [Path(sys.executable).parent / "robustsearch", "repair", "killed"], cwd=loop.folder, capture_output=True
    )
    assert done.returncode == 0, done.stderr
