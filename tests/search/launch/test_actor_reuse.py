"""Which actor a trial gets, on stand-ins for what Tune has."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

from ray.tune.execution.tune_controller import TrialRunnerWrapper

from search.launch.actor_reuse import ActorReuse


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
