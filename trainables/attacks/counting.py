"""The cost of an attack: how many images went through the network forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainables.attacks.gradients import input_gradient

if TYPE_CHECKING:
    from trainables.attacks.base import LogitsFn


class Counted:
    """A network that counts: `forward` and `backward` are numbers of images, not of batches.

    A network's own `input_gradient` is counted as one pass forward and one backward; one that averages over `samples`
    passes, as `trainables.attacks.eot.Eot` does, as so many.
    """

    def __init__(self, net: LogitsFn) -> None:
        self._net = net
        self.forward = 0
        self.backward = 0
        if hasattr(net, "samples"):
            self.samples = int(net.samples)
        self._samples = int(getattr(net, "samples", 1))
        if hasattr(net, "input_gradient"):
            self.input_gradient = self._input_gradient

    def __call__(self, x: Tensor) -> Tensor:
        self.forward += len(x) * self._samples
        logits = self._net(x)
        if torch.is_grad_enabled() and logits.requires_grad:
            logits.register_hook(self._seen)  # type: ignore[no-untyped-call]
        return logits

    def _seen(self, slope: Tensor) -> None:
        self.backward += len(slope) * self._samples

    def _input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        self.forward += len(x) * self._samples
        self.backward += len(x) * self._samples
        return input_gradient(self._net, x, slope)
