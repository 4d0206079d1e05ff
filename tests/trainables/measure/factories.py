"""Images with known margins, and the linear classifier whose robustness they determine."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from trainables.attacks.pgd import Pgd
from trainables.data.tensors import Split
from trainables.measure.evaluate import Measurement, measure
from trainables.method.protocol import Protocol
from trainables.models.normalised import Normalised
from trainables.store.state import State

SIDE = 6
PIXELS = SIDE * SIDE
EPS = 0.1
QUICK = Protocol(attack=Pgd(steps=5), eps=EPS)


def split_of(n: int = 300, classes: int = 3, seed: int = 0) -> Split:
    """Make images whose class is the brightest of `classes` bands, by margins on both sides of what EPS can move."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(40, 125, (n, 1, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    y = torch.arange(n) % classes
    bright = torch.randint(20, 100, (n,), generator=draw, dtype=torch.uint8)
    rows = SIDE // classes
    for label in range(classes):
        band = x[y == label, :, label * rows : (label + 1) * rows]
        x[y == label, :, label * rows : (label + 1) * rows] = band + bright[y == label].reshape(-1, 1, 1, 1)
    return Split(x, y, 255.0)


SPLIT = split_of()


def bands(classes: int = 3, scale: float = 50.0) -> nn.Linear:
    """Build the linear classifier that adds up each band."""
    layer = nn.Linear(PIXELS, classes)
    rows = torch.arange(SIDE).repeat_interleave(SIDE) // (SIDE // classes)
    weight = torch.stack([(rows == label).float() for label in range(classes)]) * scale / PIXELS
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(classes)})
    return layer


def linear(classes: int = 3, scale: float = 50.0) -> nn.Module:
    return Normalised(nn.Sequential(nn.Flatten(), bands(classes, scale)), None)


def measured(
    model: nn.Module, protocol: Protocol = QUICK, split: Split = SPLIT, **state: dict[str, Tensor]
) -> Measurement:
    return measure(model, replace(State.of(model), **state), protocol, split, device="cpu")
