"""Processes killed at the worst moments, one by one and in a random loop: nothing that was finished is lost."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from benchmarks.kill_loop import Loop
from benchmarks.nodes import cluster_file
from search.launch.driver import Driver
from search.store.records import Records
from tests.integration.waiting import wait_for
from tests.search import factories
from tests.search.tiny import conclusion, numbers, outcomes, states
from trainables.store import paths
from trainables.store.storage import Storage

ROOT = Path(__file__).parents[2]


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


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    with closing(Loop(tmp_path, seed=random.randrange(10**6), trials=24, epochs=8)) as made:
        yield made


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("rounds", [4, pytest.param(40, marks=pytest.mark.long)])
def test_kills_at_random_times_lose_no_trial_and_repeat_none(loop: Loop, rounds: int) -> None:
    print(f"seed {loop.tally.seed}")
    kinds = ["driver", "driver", "worker", "raylet"] * (rounds // 4)
    random.Random(loop.tally.seed).shuffle(kinds)
    wanted = Counter(kinds)
    while kinds:
        before = sum(loop.tally.kills.values())
        if not loop.round(kinds[-1], print):
            loop.extend(8)  # The study has ended: it is made longer, which loses nothing either.
        elif sum(loop.tally.kills.values()) > before:
            kinds.pop()
    assert loop.finish(600) == 0, loop.said()[-3000:]
    tally = loop.tally
    assert tally.kills == wanted
    assert (tally.trials_lost, tally.trials_repeated, tally.parameters_changed) == (0, 0, 0)
    print(tally)
    assert sorted(outcomes(loop.study)) == numbers(loop.trials)
    assert states(loop.study) == {"complete": loop.trials}
    # A node whose raylet was killed counts until Ray misses it, beside the one that came in its place.
    said = [int(number) for number in re.findall(r" trials, (\d+) at once", loop.said())]
    assert 3 <= min(said) <= max(said) <= 3 + wanted["raylet"]
    done = subprocess.run(
        [Path(sys.executable).parent / "robustsearch", "repair", "killed"], cwd=loop.folder, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    _head_dies(loop)


SLOW_PROBE = """
import os, sys, time
from pathlib import Path

place = Path(%(place)r)
if "torch" in sys.modules and not place.exists():  # In the first worker that is probed.
    place.write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_launch_whose_node_dies_in_the_probe_goes_on_with_another(tmp_path: Path) -> None:
    with closing(Loop(tmp_path, seed=0, trials=2, epochs=1)) as loop:
        # The head has room for no trial: the launch may be connected to it.
        cluster_file(tmp_path, loop.nodes, cpus_per_trial=2)
        for _ in range(2):
            loop.nodes.add(cpus=2)
        place = tmp_path / "probed"
        with open(tmp_path / "counted_epochs.py", "a") as plugin:
            plugin.write(SLOW_PROBE % {"place": str(place)})
        launch = loop.launch()
        wait_for(lambda: (place.exists() and place.read_text() != "") or launch.poll() is not None, 120)
        parents = psutil.Process(int(place.read_text())).parents()
        (raylet,) = [one for one in loop.nodes.raylets() if one in parents]
        raylet.kill()
        assert loop.finish(300) == 0, loop.said()
        assert states(loop.study) == {"complete": 2}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_launch_whose_own_node_dies_ends_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with closing(Loop(tmp_path, seed=0, trials=200, epochs=2)) as loop:
        launch = loop.launch()
        wait_for(lambda: len(outcomes(loop.study)) > 0 or launch.poll() is not None, 120)
        # That of the head, through which the launch asks for workers.
        loop.nodes.raylets()[0].kill()
        assert launch.wait(200) == 6, loop.said()
        assert "the Ray cluster has died" in conclusion(loop.said())
        loop.compare()
        assert (loop.tally.trials_lost, loop.tally.trials_repeated) == (0, 0)


def _head_dies(loop: Loop) -> None:
    """Kill the head node under the launch of a longer study: it ends by itself and says why."""
    before = len(outcomes(loop.study))
    loop.extend(500)
    launch = loop.launch()
    wait_for(lambda: len(outcomes(loop.study)) > before or launch.poll() is not None, 120)
    (head,) = [one for one in loop.nodes.processes if one.is_running() and one.name() == "gcs_server"]
    head.kill()
    assert launch.wait(120) == 6, loop.said()
    assert "the Ray cluster has died" in conclusion(loop.said())
    assert states(loop.study).keys() == {"complete"}
    assert not (loop.study / paths.DRIVER).exists()
