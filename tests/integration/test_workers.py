"""Which processes of Ray work on trials: all that were started for them, and no others."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray import cloudpickle

from search.cluster.spec import Local
from search.launch import tune
from search.launch.actor_names import NamedActors
from search.launch.api import launch
from tests.integration.waiting import wait_for
from tests.search.tiny import FIELDS, states
from trainables.worker.tune_trainable import RobustsearchTrial

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


class SlowToStart(RobustsearchTrial):
    """A trial whose worker takes longer to start than several trials take, but for the first."""

    def setup(self, config: dict[str, Any]) -> None:
        time.sleep(10 if config["number"] else 0)
        super().setup(config)


def test_trials_shorter_than_the_start_of_a_worker_are_shared_by_all_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str] = []
    get = NamedActors.get

    def noted(self: NamedActors, trainable: type) -> Any:
        actor_class = get(self, trainable)
        named.append(actor_class._default_options["name"])
        return actor_class

    monkeypatch.setattr(NamedActors, "get", noted)
    monkeypatch.setattr(tune, "RobustsearchTrial", SlowToStart)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Workers do not see this module.
    try:
        launch(FIELDS, cluster=Local(cpus=2), trials=8, storage=tmp_path, quiet=True)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert states(tmp_path / "tiny") == {"complete": 8}
    # Two, once seen three; 8 without the reuse of actors.
    assert len(named) <= 3, "actors that had been started were ended, and others started"


def test_workers_that_started_for_trials_stay_when_the_cores_are_given_away() -> None:
    import ray
    from ray.util import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    class Worker:
        def process(self) -> int:
            return os.getpid()

    def idle() -> set[int]:
        (raylet,) = [child for child in psutil.Process().children() if child.name() == "raylet"]
        return {child.pid for child in raylet.children() if child.cmdline()[:1] == ["ray::IDLE"]}

    with Local(cpus=2).connect():
        wait_for(lambda: len(idle()) == 2)
        started = idle()
        cores = placement_group([{"CPU": 1}, {"CPU": 1}])
        assert cores.wait(60)
        time.sleep(3)  # Ray looks five times a second for workers that have been idle for a second.
        inside = PlacementGroupSchedulingStrategy(cores)
        options: dict[str, Any] = {"num_cpus": 1, "runtime_env": None, "scheduling_strategy": inside}
        workers = [ray.remote(**options)(Worker).remote() for _ in range(2)]
        assert {ray.get(worker.process.remote()) for worker in workers} == started
