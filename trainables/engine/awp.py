"""Adversarial weight perturbation: the loss is descended where the weights are worst nearby.

Source: Wu, Xia & Wang 2020, arXiv:2004.05884.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from trainables.losses.base import Adversary

_TINY = 1e-12


class Once(Adversary):
    """An adversary that attacks the first batch that it is called with, and returns the same images from then on."""

    def __init__(self, other: Adversary) -> None:
        super().__init__(other.attack, other.logits_fn, other.eps, other.generator, other.labels)
        self._found: list[Tensor]
        object.__setattr__(self, "_found", [])

    def __call__(self, x: Tensor, y: Tensor, start: Tensor | None = None) -> Tensor:
        if not self._found:
            self._found.append(super().__call__(x, y, start))
        return self._found[0]


def climb(
    loss: Callable[[], Tensor],
    trained: Mapping[str, nn.Parameter],
    masks: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    shares: Mapping[str, float],
) -> Callable[[], None]:
    """Move tensors up the gradient of `loss` by their `shares` of their l2 norms; return what moves them back.

    Pruned weights stay. `loss` is called once; what that does to `buffers` is undone.
    """
    weights = {name: p for name, p in trained.items() if shares.get(name) and p.requires_grad}
    statistics = {name: buffer.clone() for name, buffer in buffers.items()}
    gradients = torch.autograd.grad(loss(), [*weights.values()], allow_unused=True)
    before = {name: p.detach().clone() for name, p in weights.items()}
    with torch.no_grad():
        for name, statistic in statistics.items():
            buffers[name].copy_(statistic)
        for (name, p), gradient in zip(weights.items(), gradients, strict=True):
            if gradient is not None:
                up = gradient * masks[name] if name in masks else gradient
                p.add_(up * (shares[name] * p.norm() / (up.norm() + _TINY)))

    def back() -> None:
        with torch.no_grad():
            for name, p in weights.items():
                p.copy_(before[name])

    return back
