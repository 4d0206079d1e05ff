"""Which actor Tune gives a trial: one that is free, or the one that starts for it."""

from __future__ import annotations

from typing import Any


class ActorReuse:
    """Leaves free actors to other trials than those for which one starts already.

    Tune gives a free actor to a trial that waits for its own, and ends the one that starts. Where a trial is shorter
    than a start, the first worker would do the work of all.
    """

    def __init__(self, controller: Any) -> None:
        self._reuse = controller._maybe_reuse_cached_actor
        self._actors = controller._trial_to_actor
        self._started = controller._actor_manager.is_actor_started

    @classmethod
    def use_in(cls, wrapped: Any) -> None:
        """Stand between Tune and its free actors; `wrapped` is the controller as Tune gives it to schedulers.

        Raises:
            AttributeError: this version of Tune keeps them elsewhere.
        """
        controller = wrapped._tune_controller  # The wrapper takes assignments to itself.
        if not isinstance(controller._maybe_reuse_cached_actor, cls):
            controller._maybe_reuse_cached_actor = cls(controller)

    def __call__(self, trial: Any) -> bool:
        """Give a trial a free actor, and return whether it got one.

        An actor that waits for resources does not start: a free one may hold what it waits for.
        """
        starts = trial in self._actors and self._started(self._actors[trial])
        return not starts and self._reuse(trial)

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Leave nothing in Tune's snapshots, from which nothing is restored."""
        return object, ()
