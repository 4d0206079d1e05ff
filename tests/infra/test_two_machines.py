"""A study on two machines with networks, processes and disks of their own: what runs where, and what a loss costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kill_loop import STUDY
from tests.infra.machines import Machines, poll
from tests.infra.ray_machines import RayMachines, epochs, hosts, write_plugin
from tests.search.tiny import conclusion, numbers, outcomes, params, states

pytestmark = [pytest.mark.infra, pytest.mark.timeout(900)]


@pytest.fixture
def ray(machines: Machines, tmp_path: Path) -> Iterator[RayMachines]:
    """Ray on both machines, which are fresh: a machine that was lost is booted again."""
    for machine in machines:
        if not machine.up:
            machines.boot(machine)
    made = RayMachines(machines, tmp_path)
    yield made
    made.stop()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of the epochs that the study's plug-in writes."""
    return write_plugin(tmp_path)


def write_study(folder: Path, trials: int, epochs: int) -> Path:
    path = folder / "killed.yaml"
    path.write_text(STUDY % {"trials": trials, "epochs": epochs})
    return path


def test_trials_run_on_both_machines_and_either_may_drive(ray: RayMachines, log: Path, tmp_path: Path) -> None:
    study, storage = write_study(tmp_path, trials=6, epochs=6), tmp_path / "runs"
    out, err = (first := ray.launch(ray.machines["n1"], study, storage)).communicate(timeout=600)
    assert first.returncode == 0, out + err
    assert states(storage / "killed") == {"complete": 6}
    assert set(hosts(log)) == {"n1", "n2"}
    assert set(epochs(log).values()) == {1}
    out, err = (second := ray.launch(ray.machines["n2"], study, storage, "--trials", "8")).communicate(timeout=600)
    assert second.returncode == 0, out + err
    assert "8 of 8 trials complete" in conclusion(err)


def test_a_machine_lost_in_the_middle_costs_no_trial(ray: RayMachines, log: Path, tmp_path: Path) -> None:
    study, storage = write_study(tmp_path, trials=8, epochs=20), tmp_path / "runs"
    lost = ray.machines["n2"]
    launch = ray.launch(ray.machines["n1"], study, storage)
    poll(lambda: hosts(log)["n2"] > 3 or launch.poll() is not None, "epochs on n2", 600)
    lost.kill()
    ended, issued = outcomes(storage / "killed"), params(storage / "killed")
    ray.machines.boot(lost)
    ray.join(lost)
    before = hosts(log)["n2"]
    out, err = launch.communicate(timeout=600)
    assert launch.returncode == 0, out + err
    assert hosts(log)["n2"] > before, "the machine that came again did nothing"
    assert states(storage / "killed") == {"complete": 8}
    assert sorted(outcomes(storage / "killed")) == numbers(8)
    assert ended.items() <= outcomes(storage / "killed").items()
    assert issued.items() <= params(storage / "killed").items()


@pytest.mark.long
def test_a_machine_cut_off_that_comes_back_counts_no_trial_twice(ray: RayMachines, log: Path, tmp_path: Path) -> None:
    """Its worker trains on, and shares the disk, while the trial runs again elsewhere."""
    study, storage = write_study(tmp_path, trials=4, epochs=40), tmp_path / "runs"
    cut = ray.machines["n2"]
    launch = ray.launch(ray.machines["n1"], study, storage)
    poll(lambda: hosts(log)["n2"] > 3 or launch.poll() is not None, "epochs on n2", 600)
    cut.unplug()
    trained = hosts(log)["n2"]
    poll(lambda: hosts(log)["n2"] > trained or launch.poll() is not None, "epochs behind the cut", 60)
    poll(lambda: "n2" not in ray.alive(), "the loss of n2", 600)
    cut.plug()
    out, err = launch.communicate(timeout=600)
    assert launch.returncode == 0, out + err
    assert states(storage / "killed") == {"complete": 4}
    assert sorted(outcomes(storage / "killed")) == numbers(4)


@pytest.mark.long
def test_a_launch_on_another_machine_resumes_after_the_head_was_lost(
    ray: RayMachines, log: Path, tmp_path: Path
) -> None:
    study, storage = write_study(tmp_path, trials=6, epochs=20), tmp_path / "runs"
    first, second = ray.machines["n1"], ray.machines["n2"]
    launch = ray.launch(first, study, storage)
    poll(lambda: len(outcomes(storage / "killed")) > 0 or launch.poll() is not None, "an outcome", 600)
    first.kill()
    ended, issued = outcomes(storage / "killed"), params(storage / "killed")
    assert 0 < len(ended) < 6
    ray.stop()
    ray.start_head(second)
    out, err = (again := ray.launch(second, study, storage, "--wait", "120")).communicate(timeout=600)
    assert again.returncode == 0, out + err
    assert states(storage / "killed") == {"complete": 6}
    assert ended.items() <= outcomes(storage / "killed").items()
    assert issued.items() <= params(storage / "killed").items()
