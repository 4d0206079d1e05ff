"""Expectation over transformation, against the mean over passes written out with autograd."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.attacks.eot import Eot

SAMPLES = 6


class Random(nn.Module):
    """A small network whose every pass adds noise to its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
        self.restart()

    def restart(self) -> None:
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).tanh() @ (self.weight + torch.randn(3, 4, generator=self.generator)).T


def test_gradients_are_those_of_the_mean_loss() -> None:
    net = Random()
    x, y = torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])

    def slope(logits: Tensor) -> Tensor:
        return logits.softmax(1) - nn.functional.one_hot(y, 3)

    found = Eot(net, SAMPLES).input_gradient(x, slope)
    net.restart()
    z = x.clone().requires_grad_()
    loss = sum(nn.functional.cross_entropy(net(z), y, reduction="sum") for _ in range(SAMPLES)) / SAMPLES
    torch.testing.assert_close(found, torch.autograd.grad(loss, z)[0])


def test_calls_return_the_logarithm_of_the_mean_probabilities() -> None:
    net = Random()
    x = torch.rand(5, 1, 2, 2)
    found = Eot(net, SAMPLES)(x)
    net.restart()
    torch.testing.assert_close(found.exp(), torch.stack([net(x).softmax(1) for _ in range(SAMPLES)]).mean(0))
