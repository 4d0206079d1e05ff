"""What makes one study another: the differences that its trials so far would not survive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search.study.spec import StudySpec
from trainables.core.spec import plain

MAY_CHANGE = (
    "description",
    "enqueue",
    "early_stopping",
    "screening",
    "budget",
    "timeouts",
    "max_failures",
    "abort_after",
    "stage_storage",
)
"""What may be changed in a study that exists."""


def changes(old: StudySpec, new: StudySpec) -> list[str]:
    """Return the differences that make `new` another study than `old`, a line each; empty where it may be continued."""
    sides = []
    for study in (old, new):
        data = plain(study, hashed=True)
        space = {path: (order, parameter) for order, (path, parameter) in enumerate(data.pop("space").items())}
        flat = dict(_leaves({name: part for name, part in data.items() if name not in MAY_CHANGE}))
        sides.append({**flat, **{f"space.{path}": text for path, text in space.items()}})
    before, after = sides
    found = []
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            found.append(f"{name}: was {_said(before[name])}, is gone")
        elif name not in before:
            found.append(f"{name}: is new, {_said(after[name])}")
        elif before[name] != after[name]:
            found.append(f"{name}: was {_said(before[name])}, is {_said(after[name])}")
    if list(old.objectives) != list(new.objectives) and set(old.objectives) == set(new.objectives):
        found.append(f"objectives: the order was {', '.join(old.objectives)}, is {', '.join(new.objectives)}")
    return found


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        order, parameter = value
        return f"{parameter} as number {order + 1}"
    return repr(value)


def _leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested plain data with their dotted paths; an empty mapping is a value."""
    if isinstance(data, Mapping) and data:
        for name, value in data.items():
            yield from _leaves(value, f"{path}.{name}" if path else str(name))
    else:
        yield path, data
