"""The share of a network's parameters that can be pruned, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

LEAST = 0.9
"""Below this share a sparsity says little about the whole network."""

_LARGEST = 3


@dataclass(frozen=True)
class Share:
    """How many of a network's `parameters` are `prunable`, and the largest tensors of the others, by name."""

    model: str
    prunable: int
    parameters: int
    outside: Mapping[str, int]

    @classmethod
    def of(cls, model: str, net: nn.Module) -> Share:
        """Count the parameters of a network, each tensor once."""
        from trainables.models.checks import bare
        from trainables.store.state import prunable

        sizes = {name: p.numel() for name, p in net.named_parameters()}
        names = set(prunable(net))
        rest = {bare(name): size for name, size in sizes.items() if name not in names}
        largest = sorted(rest, key=lambda name: -rest[name])[:_LARGEST]
        counted = sum(sizes[name] for name in names)
        return cls(model, counted, sum(sizes.values()), {name: rest[name] for name in largest})

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Share:
        """Return what `plain` returned as data."""
        return cls(**data)

    def plain(self) -> dict[str, Any]:
        """Return the counts as JSON-able data."""
        return {
            "model": self.model,
            "prunable": self.prunable,
            "parameters": self.parameters,
            "outside": dict(self.outside),
        }

    def __str__(self) -> str:
        text = f"{self.model}: {sentence(self.prunable, self.parameters)}"
        if self.prunable >= LEAST * self.parameters:
            return text
        named = ", ".join(f"{name} ({size:,})" for name, size in self.outside.items())
        return f"{text}; sparsity counts those alone{f', and the largest others are {named}' if named else ''}"


def sentence(prunable: int, parameters: int) -> str:
    """Say how many parameters are prunable; a share below 1 is never rounded to 100 %."""
    percent = math.floor(1000 * prunable / parameters) / 10
    return f"{prunable:,} of {parameters:,} parameters ({percent:.1f} %) are prunable"
