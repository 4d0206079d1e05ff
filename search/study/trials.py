"""From parameters to a trial: the model and recipe of a study with sampled values set in them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from search.files.diagnostics import shown
from search.space.parameters import Categorical, IntRange, Params, Space
from trainables.core.errors import SpecError
from trainables.core.spec import Spec, plain
from trainables.data.base import Data
from trainables.method.protocol import Protocol
from trainables.models.base import Model
from trainables.recipes.base import Recipe
from trainables.recipes.trial import TrialSpec

MakeTrial = Callable[[Params], TrialSpec]
"""Returns the trial with given parameters; raises `SpecError` where no trial can have them."""


@dataclass(frozen=True)
class TrialTemplate:
    """What the trials of a study have in common; a space sets values below `model` and `recipe`."""

    model: Model
    recipe: Recipe
    data: Data
    protocol: Protocol
    seed: int
    plugins: tuple[str, ...]
    snapshots: tuple[int, ...]
    measure_at: tuple[int, ...] = ()
    shrink: bool = False
    sparse: bool = False

    def plain(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the trial with these parameters as plain data, not yet validated.

        Raises:
            SpecError: a path leads through a value that has no fields.
        """
        data: dict[str, Any] = {"model": plain(self.model), "recipe": plain(self.recipe)}
        # Kinds come first, the outer before the inner: they decide which fields there are.
        for path in sorted(params, key=lambda path: (not path.endswith(".kind"), path.count("."))):
            *within, field = path.split(".")
            if field == "kind":
                _become(data, within, params[path])
            put(data, [*within, field], params[path])
        names = ("data", "protocol", "seed", "plugins", "snapshots", "measure_at", "shrink", "sparse")
        return {**data, **{name: getattr(self, name) for name in names}}


def _become(data: dict[str, Any], path: list[str], kind: Any) -> None:
    """Drop the fields of the kind at `path` where another kind replaces it, but for those that all kinds have."""
    found: Any = data
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, dict) and found.get("kind") != kind:
        bases: dict[str, type[Spec]] = {"recipe": Recipe, "model": Model}
        base = bases.get(".".join(path), Spec)
        for name in found.keys() - base.model_fields.keys():
            del found[name]


def rewind_epochs(space: Space) -> tuple[int, ...]:
    """Return the epochs that some trial of the study may rewind to, whose weights are worth keeping."""
    parameter = space.get("recipe.rewind")
    if isinstance(parameter, IntRange):
        return tuple(range(parameter.low, parameter.high + 1, parameter.step or 1))
    choices = parameter.choices if isinstance(parameter, Categorical) else ()
    return tuple(sorted(choice for choice in choices if isinstance(choice, int) and not isinstance(choice, bool)))


def put(data: dict[str, Any], path: list[str], value: Any, resolved: Mapping[str, Any] | None = None) -> None:
    """Set a value in plain data in place, creating mappings on the way.

    What is missing, or written as a bare kind, is first written in full as `resolved` has it, where it is given.

    Raises:
        SpecError: the path leads through a value that has no fields.
    """
    holder = data
    for depth, part in enumerate(path[:-1]):
        inner = holder.get(part)
        resolved = resolved.get(part) if isinstance(resolved, Mapping) else None
        if not isinstance(inner, dict) and isinstance(resolved, Mapping):
            inner = copy.deepcopy(dict(resolved))
        elif inner is None:
            inner = {} if resolved is None else resolved
        elif isinstance(inner, str) and resolved is None:
            inner = {"kind": inner}
        if not isinstance(inner, dict):
            at = ".".join(path[: depth + 1])
            raise SpecError(f"{'.'.join(path)}: {at} is {shown(inner)}, which has no '{path[depth + 1]}'")
        holder[part] = inner
        holder = inner
    holder[path[-1]] = value
