"""The share of a network's parameters that can be pruned, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

LEAST = 0.9
"""Below this share a sparsity says little about the whole network."""

_LARGEST = 3


@dataclass(frozen=True)
class Share:
    """How many of a network's `parameters` are `prunable`, and the largest tensors of the others, by name.

    `weights_outside` counts those in `weights_outside(net)`, where it is known.
    """

    model: str
    prunable: int
    parameters: int
    outside: Mapping[str, int]
    weights_outside: int | None = None

    @classmethod
    def of(cls, model: str, net: nn.Module) -> Share:
        """Count the parameters of a network, each tensor once."""
        from trainables.models.checks import bare
        from trainables.store.state import prunable

        sizes = {name: p.numel() for name, p in net.named_parameters()}
        names = set(prunable(net))
        others = weights_outside(net)
        rest = {bare(name): size for name, size in sizes.items() if name not in names}
        rest |= {bare(name): size for name, size in others.items()}
        largest = sorted(rest, key=lambda name: -rest[name])[:_LARGEST]
        counted = sum(sizes[name] for name in names)
        return cls(model, counted, sum(sizes.values()), {name: rest[name] for name in largest}, sum(others.values()))

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
            "weights_outside": self.weights_outside,
        }

    def __str__(self) -> str:
        text = f"{self.model}: {sentence(self.prunable, self.parameters)}"
        outside = self.weights_outside or 0
        if self.prunable >= LEAST * self.parameters and not outside:
            return text
        named = ", ".join(f"{name} ({size:,})" for name, size in self.outside.items())
        text = f"{text}; sparsity counts those alone{f', and the largest others are {named}' if named else ''}"
        return f"{text}; {outside_sentence(self.prunable, outside)}" if outside else text


def weights_outside(net: nn.Module) -> dict[str, int]:
    """Return the sizes of the tensors that hold information as weights do, and that no pruner cuts, by name.

    Those are floating-point parameters and buffers outside prunable layers: embeddings, bare parameters, a weight that
    is computed from others, a fixed matrix in a buffer.
    Biases, and the scales, shifts and statistics of normalisation layers, are none.
    """
    from torch import nn

    from trainables.models.normalised import Normalise
    from trainables.store.state import named_tensors, prunable

    norms = (
        nn.modules.batchnorm._NormBase,
        nn.GroupNorm,
        nn.LayerNorm,
        nn.RMSNorm,
        Normalise,
    )
    modules = net.named_modules()
    small = {f"{path}.{own}".lstrip(".") for path, m in modules if isinstance(m, norms) for own in _own(m)}
    skipped = small | set(prunable(net))
    return {
        name: t.numel()
        for name, t in named_tensors(net).items()
        if name not in skipped and (t.is_floating_point() or t.is_complex()) and t.numel() > 1 and not _is_bias(name, t)
    }


def _own(module: nn.Module) -> list[str]:
    return [*module._parameters, *module._buffers]


def _is_bias(name: str, tensor: Tensor) -> bool:
    return tensor.dim() <= 1 and "bias" in name.rpartition(".")[2]


def outside_sentence(prunable: int, outside: int) -> str:
    """Say how many weights no sparsity counts."""
    percent = 100 * outside / (prunable + outside)
    return f"{outside:,} weights ({percent:.1f} %) are outside prunable layers"


def sentence(prunable: int, parameters: int) -> str:
    """Say how many parameters are prunable; a share below 1 is never rounded to 100 %."""
    percent = math.floor(1000 * prunable / parameters) / 10
    return f"{prunable:,} of {parameters:,} parameters ({percent:.1f} %) are prunable"
