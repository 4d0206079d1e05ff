"""A small convolutional network, images that it can tell apart, and trainings of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from trainables.data.tensors import Split, TrainingData
from trainables.engine.train import Epoch, train
from trainables.method.phases import Train
from trainables.method.training import Training
from trainables.store.state import State

KEY = "a key"


def data(n: int = 60, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 3) -> TrainingData:
    """Make classes that a little network can tell apart: one bright row each, and noise."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    x = torch.randint(60, (n, *shape), generator=generator)
    x[torch.arange(n), :, y * 2] += 150
    split = Split(x.to(torch.uint8), y, 255.0)
    return TrainingData(split, split, classes, shape, (0.3,) * shape[0], (0.3,) * shape[0], "f", "s")


def network(shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(shape[0], 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 3)
    )


def pruned(state: State, share: float = 0.5) -> State:
    generator = torch.Generator().manual_seed(5)
    masks = {name: torch.rand(mask.shape, generator=generator) > share for name, mask in state.masks.items()}
    return State(state.params, state.buffers, masks).masked()


def phase(epochs: int = 3, start: int = 0, **fields: Any) -> Train:
    return Train(
        epochs=epochs, start=start, training=Training(**{"batch": 25, "eps": 0.05, "precision": "fp32"} | fields)
    )


def started(spec: Train, state: State | None = None, **options: Any) -> Iterator[Epoch]:
    model = network()
    return train(model, state or State.of(model), spec, data(), key=KEY, device="cpu", **options)


def end(epochs: Iterator[Epoch]) -> Epoch:
    *_, last = epochs
    return last


def same(one: State, other: State) -> bool:
    return one.weights_sha256() == other.weights_sha256()


EVERYTHING = {"ema": 0.9, "crop": 1, "flip": True, "eps_warmup": 1.5, "label_smoothing": 0.1}
