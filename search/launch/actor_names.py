"""Names for what Ray's dashboard lists: the actors of a launch, and the calls to them, by the trials that they run.

Tune names neither, and Ray shows an actor's `repr()` as it was when the actor started, which a reused one outlives.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any


class NamedActors:
    """Gives each actor that Tune starts a name of its own, such as `digits worker 3 (job 01000000)`.

    Workers that a launch's own Ray has started have its environment already, and take actors without another one: for
    the few variables that Tune passes on, Ray would start new processes.
    """

    def __init__(self, name: str, cluster_unique: str, *, own_workers: bool = False) -> None:
        """Number the actors of a launch; `cluster_unique` tells it from others on the cluster."""
        self._name = name
        self._unique = cluster_unique
        self._changed: dict[str, Any] = {"runtime_env": None} if own_workers else {}
        self._numbers = itertools.count(1)
        self._classes: Any = None

    def use_in(self, wrapped: Any) -> None:
        """Stand between Tune and its actor classes; `wrapped` is the controller as Tune gives it to schedulers.

        Raises:
            AttributeError: this version of Tune keeps them elsewhere.
        """
        controller = wrapped._tune_controller  # The wrapper takes assignments to itself.
        if controller._class_cache is not self:
            self._classes, controller._class_cache = controller._class_cache, self

    def get(self, trainable: type) -> Any:
        """Return Tune's actor class of a trainable with the next name; it is registered with Ray once."""
        named = copy.copy(self._classes.get(trainable))
        name = f"{self._name} {next(self._numbers)} ({self._unique})"
        named._default_options = {**named._default_options, **self._changed, "name": name}
        return named


class NamedCalls:
    """The method of an actor that works on a trial; its calls are shown under `name`."""

    METHOD = "train"

    def __init__(self, method: Any) -> None:
        self._method = method
        self.name = ""

    @classmethod
    def of(cls, actor: Any) -> NamedCalls:
        """Return what names the calls of an actor, which is put in the place of its method the first time."""
        calls = getattr(actor, cls.METHOD)
        if not isinstance(calls, cls):
            calls = cls(calls)
            setattr(actor, cls.METHOD, calls)
        return calls

    def remote(self, *arguments: Any, **named: Any) -> Any:
        """Call the method."""
        return self._method.options(name=self.name).remote(*arguments, **named)
