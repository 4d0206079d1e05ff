"""Tensors that a kind, which may be a plug-in's, reads and leaves as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trainables.core.errors import SpecError


@contextmanager
def unchanged(who: str, tensors: Mapping[str, Any]) -> Iterator[None]:
    """Refuse code that changes one of the tensors in place: torch counts these changes.

    What bypasses the count, such as `tensor.data`, stays unnoticed.

    Raises:
        SpecError: says which one.
    """
    before = {name: tensor._version for name, tensor in tensors.items()}
    yield
    for name, tensor in tensors.items():
        if tensor._version != before[name]:
            raise SpecError(f"{who} changes {name} in place; let it work on a copy (.clone())")
