"""Activation layers that torch does not have, and the recording of activations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class TopK(nn.Module):
    """A ReLU that keeps the `k` largest outputs of an image, and those equal to the last, and sets the rest to 0.

    Shapes: (N, ...) to the same. Source: winner-take-all, Makhzani & Frey 2015, arXiv:1409.2752.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        flat = x.flatten(1)
        least = flat.topk(self.k, dim=1).values[:, self.k - 1 : self.k]
        return torch.where(flat >= least, flat, 0.0).view_as(x)


ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Softplus, nn.Tanh, TopK),
)
"""The layers whose outputs are activations. A gate's sigmoid is none, and a function is not seen."""


@contextmanager
def recorded(net: nn.Module) -> Iterator[list[Tensor]]:
    """Record the outputs of all activation layers in the order of the forward passes inside the block."""
    outputs: list[Tensor] = []

    def record(module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> None:
        outputs.append(output)

    hooks = [module.register_forward_hook(record) for module in net.modules() if isinstance(module, ACTIVATIONS)]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def activity(outputs: Sequence[Tensor]) -> Tensor:
    """Return the l1 norm of an image's activations, averaged over the images of each pass."""
    return torch.stack([output.float().abs().sum() / len(output) for output in outputs]).sum()
