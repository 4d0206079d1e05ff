"""Ordinary networks: small ones of many kinds, trained on handwritten digits, dense and pruned by magnitude."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.attacks import run
from trainables.attacks.pgd import Pgd
from trainables.data.tensors import TrainingData
from trainables.models.normalised import Normalise, Normalised
from trainables.store.state import State

SPARSITIES = (0.0, 0.5, 0.9, 0.98)
EPS = 0.1


def perceptron(
    activation: Callable[[], nn.Module], width: int = 32, *, norm: bool = False, drop: float = 0.0
) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for inside, outside in ((64, width), (width, width)):
        layers.append(nn.Linear(inside, outside))
        layers += [nn.BatchNorm1d(outside)] if norm else []
        layers.append(activation())
        layers += [nn.Dropout(drop)] if drop else []
    return nn.Sequential(*layers, nn.Linear(width, 10))


def convolutional(
    activation: Callable[[], nn.Module], width: int = 8, *, pool: bool = False, norm: bool = True
) -> nn.Module:
    layers: list[nn.Module] = []
    for inside, outside in ((1, width), (width, 2 * width)):
        layers.append(nn.Conv2d(inside, outside, 3, padding=1))
        layers += [nn.BatchNorm2d(outside)] if norm else []
        layers.append(activation())
        layers.append(nn.MaxPool2d(2) if pool else nn.AvgPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * width, 10))


class Residual(nn.Module):
    """A stem, a block with a shortcut, and a mean over pixels."""

    def __init__(self, width: int = 12, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.inner = nn.Sequential(
            norm(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), norm(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip
        self.head = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        z = self.stem(x)
        logits: Tensor = self.head(F.adaptive_avg_pool2d((z + self.inner(z)).relu(), 2).flatten(1))
        return logits


class Attending(nn.Module):
    """Self-attention over the rows of the image."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(self.embed(x[:, 0])).flatten(1))
        return logits


def groups(width: int) -> nn.Module:
    return nn.GroupNorm(4, width)


KINDS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": lambda: perceptron(nn.ReLU),
    "ReLU, wide": lambda: perceptron(nn.ReLU, 128),
    "ReLU, tiny": lambda: perceptron(nn.ReLU, 6),
    "tanh": lambda: perceptron(nn.Tanh),
    "GELU": lambda: perceptron(nn.GELU),
    "SiLU": lambda: perceptron(nn.SiLU),
    "ELU": lambda: perceptron(nn.ELU),
    "leaky ReLU": lambda: perceptron(nn.LeakyReLU),
    "sigmoid": lambda: perceptron(nn.Sigmoid),
    "batch norm": lambda: perceptron(nn.ReLU, norm=True),
    "batch norm, dropout": lambda: perceptron(nn.ReLU, 64, norm=True, drop=0.3),
    "dropout": lambda: perceptron(nn.ReLU, 64, drop=0.5),
    "convolutions, batch norm": lambda: convolutional(nn.ReLU),
    "convolutions, max pooling": lambda: convolutional(nn.ReLU, pool=True, norm=False),
    "convolutions, GELU": lambda: convolutional(nn.GELU, pool=True),
    "convolutions, tanh": lambda: convolutional(nn.Tanh, norm=False),
    "convolutions, tiny": lambda: convolutional(nn.ReLU, 3),
    "shortcut": Residual,
    "shortcut, group norm": lambda: Residual(12, groups),
    "attention": Attending,
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
}


@dataclass(frozen=True)
class Trained:
    """A trained network by name, and the tensors to measure it with."""

    name: str
    model: nn.Module
    state: State


def networks(data: TrainingData, seeds: int, kinds: tuple[str, ...] = tuple(KINDS)) -> Iterator[Trained]:
    """Train each kind from each seed, naturally, adversarially and with averaged weights, and prune it step by step."""
    for seed in range(seeds):
        for kind in kinds:
            for way in ("natural", "adversarial", "averaged"):
                torch.manual_seed(seed)
                model = Normalised(KINDS[kind](), Normalise(data.mean, data.std))
                yield from _chain(f"{kind}, {way}, seed {seed}", model, data, way, seed)


def _chain(name: str, model: nn.Module, data: TrainingData, way: str, seed: int) -> Iterator[Trained]:
    generator = torch.Generator().manual_seed(seed)
    masks: dict[str, Tensor] = State.of(model).masks
    for sparsity in SPARSITIES:
        masks = _cut(model, masks, sparsity)
        averaged = _train(model, data, masks, way, 25 if sparsity == 0 else 6, generator)
        state = State.of(averaged)
        yield Trained(f"{name}, {100 * sparsity:g} % sparse", averaged, State(state.params, state.buffers, masks))


def _cut(model: nn.Module, masks: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    params = dict(model.named_parameters())
    every = torch.cat([params[name].detach().abs().flatten() for name in masks])
    bound = every.sort().values[min(round(sparsity * len(every)), len(every) - 1)]
    return {name: (params[name].detach().abs() >= bound) & mask for name, mask in masks.items()}


def _train(
    model: nn.Module, data: TrainingData, masks: dict[str, Tensor], way: str, epochs: int, generator: torch.Generator
) -> nn.Module:
    """Train in place with masks; return the network, or its moving average."""
    images, labels = data.train.pixels(), data.train.y
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    average = copy.deepcopy(model)
    attack = Pgd(steps=4, step_size=0.4)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(128):
            x, y = images[batch], labels[batch]
            if way == "adversarial":
                x = run(attack, model.eval(), x, y, eps=EPS, generator=generator, keep="last")
            optimiser.zero_grad()
            F.cross_entropy(model.train()(x), y).backward()
            optimiser.step()
            _hold(model, masks)
            _average(average, model)
    _hold(average, masks)
    return average.eval() if way == "averaged" else copy.deepcopy(model).eval()


@torch.no_grad()
def _hold(model: nn.Module, masks: dict[str, Tensor]) -> None:
    for name, p in model.named_parameters():
        if name in masks:
            p.mul_(masks[name])


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module) -> None:
    for mine, theirs in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 0.02)
        else:
            mine.copy_(theirs)
