"""Attacks on a random network: the expectation over its draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.attacks.gradients import input_gradient


class Eot:
    """Expectation over transformation: a random network as an attack should see it, averaged over `samples` passes.

    Calls return the logarithm of the mean probabilities; gradients are those of the mean loss.
    Shapes: inputs (N, ...) in [0, 1]; results (N, K).
    Source: Athalye et al. 2018, arXiv:1707.07397; arXiv:1802.00420.
    """

    def __init__(self, net: Callable[[Tensor], Tensor], samples: int) -> None:
        self._net, self.samples = net, samples

    def __call__(self, x: Tensor) -> Tensor:
        log_probabilities = torch.stack([self._net(x).log_softmax(dim=1) for _ in range(self.samples)])
        return log_probabilities.logsumexp(dim=0) - torch.tensor(float(self.samples)).log().item()

    def input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the mean over the passes of `trainables.attacks.gradients.input_gradient`, shaped like `x`."""
        total = input_gradient(self._net, x, slope)
        for _ in range(self.samples - 1):
            total = total + input_gradient(self._net, x, slope)
        return total / self.samples
