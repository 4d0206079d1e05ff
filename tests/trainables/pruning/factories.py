"""A small network, images, and what a pruner sees of them."""

from __future__ import annotations

import torch
from torch import nn

from trainables.data.tensors import Split, TrainingData
from trainables.models.normalised import Normalise, Normalised
from trainables.pruning import Pruning
from trainables.pruning.base import PrunerContext
from trainables.pruning.cut import prune
from trainables.pruning.network import Network
from trainables.store.state import State, Tensors

MEAN, STD = (0.4, 0.6), (0.2, 0.3)
SHAPE = (2, 6, 6)


def build(seed: int = 0, batch_norm: bool = True) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        norm = [nn.BatchNorm2d(3)] if batch_norm else []
        layers = [nn.Conv2d(2, 3, 3), *norm, nn.ReLU(), nn.Flatten(), nn.Linear(48, 4), nn.Tanh(), nn.Linear(4, 3)]
        return Normalised(nn.Sequential(*layers), Normalise(MEAN, STD))


def data(images: int = 24) -> TrainingData:
    draws = torch.Generator().manual_seed(3)
    split = Split(
        torch.randint(0, 256, (images, *SHAPE), generator=draws, dtype=torch.uint8),
        torch.randint(0, 3, (images,), generator=draws),
        255.0,
    )
    return TrainingData(split, split, 3, SHAPE, MEAN, STD, "", "")


def network(state: State, model: nn.Module, seed: int = 1) -> Network:
    return Network(model, state, data(), torch.Generator().manual_seed(seed), build)


def context(model: nn.Module, sparsity: float = 0.0) -> PrunerContext:
    """Return what a pruner sees of a network, some of which is cut already."""
    draws = torch.Generator().manual_seed(0)
    state = prune(Pruning(pruner="random"), sparsity, State.of(model), draws)  # type: ignore[arg-type]
    view = network(state, model)
    return PrunerContext({name: state.params[name] for name in state.masks}, state.masks, view.generator, view)


def close(found: Tensors, wanted: Tensors, tolerance: float = 1e-4) -> None:
    assert found.keys() == wanted.keys()
    for name, score in wanted.items():
        torch.testing.assert_close(found[name], score, rtol=tolerance, atol=tolerance * float(score.abs().max()))
