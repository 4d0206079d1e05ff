"""Nets without shortcuts or batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainables.models.activations import TopK
from trainables.models.nets.initial import glorot

Shape = tuple[int, int, int]


def _head(sizes: Sequence[int], *, bias: bool = True, active: float = 1.0) -> list[nn.Module]:
    """Return linear layers from size to size with ReLU between them, of which the share `active` of each stays."""
    layers: list[nn.Module] = [nn.Flatten()]
    for index, (inside, outside) in enumerate(pairwise(sizes)):
        if index:
            layers.append(nn.ReLU(inplace=True) if active == 1 else TopK(max(1, round(active * inside))))
        layers.append(nn.Linear(inside, outside, bias=bias))
    return layers


class Opposed(nn.Module):
    """Turn the one output z of a binary classifier into the logits -z/2 and z/2, whose difference it is."""

    def forward(self, z: Tensor) -> Tensor:
        """Shapes: z (N, 1) to (N, 2)."""
        return torch.cat([-z / 2, z / 2], dim=1)


def binary(shape: Shape) -> nn.Module:
    """Build a linear classifier of two classes with one weight per pixel."""
    channels, height, width = shape
    return glorot(nn.Sequential(*_head([channels * height * width, 1]), Opposed()))


def mlp(
    shape: Shape,
    hidden: Sequence[int],
    classes: int,
    *,
    bias: bool = True,
    uniform: bool = False,
    active: float = 1.0,
) -> nn.Module:
    """Build a multilayer perceptron on the flattened image; without hidden layers it is linear."""
    channels, height, width = shape
    sizes = [channels * height * width, *hidden, classes]
    return glorot(nn.Sequential(*_head(sizes, bias=bias, active=active)), uniform=uniform)


def lenet5(shape: Shape, classes: int) -> nn.Module:
    """Build LeNet-5 with 20 and 50 filters and 500 units."""
    channels, height, width = shape

    def after(pixels: int) -> int:
        return ((pixels - 4) // 2 - 4) // 2

    return glorot(
        nn.Sequential(
            nn.Conv2d(channels, 20, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            *_head([50 * after(height) * after(width), 500, classes]),
        )
    )


def conv4(shape: Shape, classes: int) -> nn.Module:
    """Build Conv-4: two pairs of 3x3 convolutions and three linear layers."""
    channels, height, width = shape
    layers: list[nn.Module] = []
    for filters in (64, 128):
        for inside in (channels, filters):
            layers += [nn.Conv2d(inside, filters, 3, padding=1), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
        channels = filters
    return glorot(nn.Sequential(*layers, *_head([128 * (height // 4) * (width // 4), 256, 256, classes])))
