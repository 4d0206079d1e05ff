"""Names of actors and of calls, on stand-ins for what Tune and Ray have, behind Tune's own wrapper."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune.execution.tune_controller import TrialRunnerWrapper

from search.launch.actor_names import NamedActors, NamedCalls


class Classes:
    """Tune's cache: one actor class, whose options are its own."""

    def __init__(self) -> None:
        self.actor_class = SimpleNamespace(_default_options={"max_restarts": 0})

    def get(self, trainable: type) -> Any:
        return self.actor_class


class Method:
    """A method of an actor; `called` is shared with what `options` returns."""

    def __init__(self, called: list[tuple[str | None, tuple[Any, ...]]], name: str | None = None) -> None:
        self._called = called
        self._name = name

    def options(self, name: str) -> Method:
        return Method(self._called, name)

    def remote(self, *arguments: Any) -> None:
        self._called.append((self._name, arguments))


def test_every_actor_has_a_name_of_its_own() -> None:
    classes = Classes()
    controller = SimpleNamespace(_class_cache=classes)
    actors = NamedActors("digits worker", "job 01")
    for _ in range(2):
        actors.use_in(TrialRunnerWrapper(controller, None))
    made = [controller._class_cache.get(object)._default_options for _ in range(2)]
    assert made == [{"max_restarts": 0, "name": f"digits worker {number} (job 01)"} for number in (1, 2)]
    assert classes.actor_class._default_options == {"max_restarts": 0}


def test_actors_in_own_workers_have_no_environment_that_needs_new_processes() -> None:
    classes = Classes()
    classes.actor_class._default_options["runtime_env"] = {"env_vars": {"PL_DISABLE_FORK": "1"}}
    controller = SimpleNamespace(_class_cache=classes)
    for own, left in ((False, {"env_vars": {"PL_DISABLE_FORK": "1"}}), (True, None)):
        actors = NamedActors("digits worker", "job 01", own_workers=own)
        controller._class_cache = classes
        actors.use_in(TrialRunnerWrapper(controller, None))
        assert controller._class_cache.get(object)._default_options["runtime_env"] == left


def test_calls_are_named_after_the_trial_that_the_actor_runs_now() -> None:
    called: list[tuple[str | None, tuple[Any, ...]]] = []
    actor = SimpleNamespace(train=Method(called), reset=Method(called))
    for trial in ("digits-00001 sparsity=0.5", "digits-00007 sparsity=0.9"):
        NamedCalls.of(actor).name = trial
        actor.train.remote(1)
    actor.reset.remote()
    assert called == [("digits-00001 sparsity=0.5", (1,)), ("digits-00007 sparsity=0.9", (1,)), (None, ())]
