"""What the kits train: a small network, images that it can tell apart, and short trainings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from trainables.data.tensors import Split, TrainingData
from trainables.engine.epoch import Epoch
from trainables.engine.train import train
from trainables.method.phases import Train
from trainables.method.training import Training
from trainables.store.state import State

KEY = "a key"
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
"""The memory formats that every tensor code is tested in."""


def data(n: int = 60, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 3) -> TrainingData:
    """Make images (n, *shape) of classes that a small network can tell apart: one bright row each, and noise."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    x = torch.randint(60, (n, *shape), generator=generator)
    x[torch.arange(n), :, y * 2] += 150
    split = Split(x.to(torch.uint8), y, 255.0)
    return TrainingData(split, split, classes, shape, (0.3,) * shape[0], (0.3,) * shape[0], "f", "s")


def network(shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> nn.Module:
    """Build a network with a convolution, a batch norm and a linear layer, for 3 classes."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(shape[0], 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 3)
    )


def pruned(state: State, share: float = 0.5) -> State:
    """Prune about `share` of the weights, at random but always the same ones."""
    generator = torch.Generator().manual_seed(5)
    masks = {name: torch.rand(mask.shape, generator=generator) > share for name, mask in state.masks.items()}
    return State(state.params, state.buffers, masks).masked()


def phase(epochs: int = 3, start: int = 0, **fields: Any) -> Train:
    """Describe a training of few steps; `fields` are those of `Training`."""
    return Train(
        epochs=epochs, start=start, training=Training(**{"batch": 25, "eps": 0.05, "precision": "fp32"} | fields)
    )


def started(spec: Train, state: State | None = None, **options: Any) -> Iterator[Epoch]:
    """Start a training of `network()` on `data()`."""
    model = network()
    return train(model, state or State.of(model), spec, data(), key=KEY, device="cpu", **options)


def end(epochs: Iterator[Epoch]) -> Epoch:
    """Run a training to its end and return its last epoch."""
    *_, last = epochs
    return last


def same(one: State, other: State) -> bool:
    """Return whether two states hold the same bits."""
    return one.weights_sha256() == other.weights_sha256()
