"""A few corruptions of images, at stated severities; none is made for the network."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from trainables.method.confirmation import Corruption

_RADII = 3.0
"""How far the blur reaches, in units of sigma."""


def corrupted(kind: Corruption, severity: float, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return corrupted images; `severity` is that of `trainables.method.confirmation.SEVERITIES`.

    Shapes: x and the result (N, C, H, W) in [0, 1].
    """
    if kind == "gaussian_noise":
        noise = torch.empty_like(x).normal_(std=severity, generator=generator)
        return (x + noise).clamp(0, 1)
    if kind == "brightness":
        return (x + severity).clamp(0, 1)
    if kind == "contrast":
        middle = x.mean(dim=(1, 2, 3), keepdim=True)
        return (middle + severity * (x - middle)).clamp(0, 1)
    return _blurred(x, severity)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """Return images after a Gaussian blur of `sigma` pixels, with edges repeated."""
    reach = max(1, math.ceil(_RADII * sigma))
    places = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-places.square() / (2 * sigma * sigma))
    weights = weights / weights.sum()
    channels = x.shape[1]
    padded = functional.pad(x, (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(padded, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    both = functional.conv2d(rows, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return both.clamp(0, 1).contiguous(memory_format=torch.channels_last)
