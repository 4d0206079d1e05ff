"""Which actor a trial gets: on stand-ins for what Tune has, and how many actors a search on real Ray starts."""

from __future__ import annotations

import copy
import pickle
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.execution.tune_controller import TrialRunnerWrapper

from search.cluster.spec import Local
from search.launch import tune
from search.launch.actor_names import NamedActors
from search.launch.actor_reuse import ActorReuse
from search.launch.api import launch
from tests.search.tiny import FIELDS, states
from trainables.worker.tune_trainable import RobustsearchTrial


class Controller:
    """Tune's: trials that have actors, those of them that started, and the trials that were given a free one."""

    def __init__(self, actors: dict[str, str], started: set[str]) -> None:
        self._trial_to_actor = actors
        self._actor_manager = SimpleNamespace(is_actor_started=started.__contains__)
        self.given: list[str] = []

    def _maybe_reuse_cached_actor(self, trial: str) -> bool:
        self.given.append(trial)
        return True


def test_a_trial_whose_actor_starts_leaves_free_ones_to_others() -> None:
    controller = Controller({"starts": "a", "waits for resources": "b"}, started={"a"})
    for _ in range(2):
        ActorReuse.use_in(TrialRunnerWrapper(controller, None))
    reuse: Any = controller._maybe_reuse_cached_actor
    assert [reuse(trial) for trial in ("starts", "waits for resources", "new")] == [False, True, True]
    assert controller.given == ["waits for resources", "new"]


def test_nothing_of_it_is_kept_in_snapshots() -> None:
    reuse = ActorReuse(Controller({}, set()))
    for copied in (pickle.loads(pickle.dumps(reuse)), copy.deepcopy(reuse)):
        assert type(copied) is object


class SlowToStart(RobustsearchTrial):
    """A trial whose worker takes longer to start than several trials take, but for the first."""

    def setup(self, config: dict[str, Any]) -> None:
        time.sleep(10 if config["number"] else 0)
        super().setup(config)


@pytest.mark.ray
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
    assert len(named) == 2, "actors that had been started were ended, and others started"
