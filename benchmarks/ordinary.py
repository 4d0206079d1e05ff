"""Ordinary networks: small ones of many kinds, trained on several data sets, dense and pruned by magnitude."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.attacks import run
from trainables.attacks.pgd import Pgd
from trainables.data.base import Data
from trainables.data.cifar import Cifar10
from trainables.data.digits import Digits
from trainables.data.mnist import FashionMnist, Mnist
from trainables.data.tensors import TrainingData
from trainables.models.normalised import Normalise, Normalised
from trainables.store.state import State

SPARSITIES = (0.0, 0.5, 0.9, 0.98)
WAYS = ("natural", "adversarial", "averaged")
EPS = 0.1
"""The radius for digits."""
CLASSES = 10

Shape = tuple[int, int, int]


def perceptron(
    shape: Shape, activation: Callable[[], nn.Module], width: int = 32, *, norm: bool = False, drop: float = 0.0
) -> nn.Module:
    channels, height, wide = shape
    layers: list[nn.Module] = [nn.Flatten()]
    for inside, outside in ((channels * height * wide, width), (width, width)):
        layers.append(nn.Linear(inside, outside))
        layers += [nn.BatchNorm1d(outside)] if norm else []
        layers.append(activation())
        layers += [nn.Dropout(drop)] if drop else []
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def convolutional(
    shape: Shape, activation: Callable[[], nn.Module], width: int = 8, *, pool: bool = False, norm: bool = True
) -> nn.Module:
    channels, height, wide = shape
    layers: list[nn.Module] = []
    for inside, outside in ((channels, width), (width, 2 * width)):
        layers.append(nn.Conv2d(inside, outside, 3, padding=1))
        layers += [nn.BatchNorm2d(outside)] if norm else []
        layers.append(activation())
        layers.append(nn.MaxPool2d(2) if pool else nn.AvgPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width * (height // 4) * (wide // 4), CLASSES))


def lenet(shape: Shape, width: int = 6, *, norm: bool = False, drop: float = 0.0) -> nn.Module:
    """LeNet-5 with ReLU and max pooling: 5x5 convolutions without padding, then two hidden layers."""
    channels, height, wide = shape
    layers: list[nn.Module] = []
    for inside, outside in ((channels, width), (width, 3 * width)):
        layers.append(nn.Conv2d(inside, outside, 5))
        layers += [nn.BatchNorm2d(outside)] if norm else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    layers.append(nn.Flatten())
    sizes = (3 * width * ((height - 12) // 4) * ((wide - 12) // 4), 20 * width, 14 * width)
    for inside, outside in ((sizes[0], sizes[1]), (sizes[1], sizes[2])):
        layers += [nn.Linear(inside, outside), nn.ReLU()]
        layers += [nn.Dropout(drop)] if drop else []
    return nn.Sequential(*layers, nn.Linear(sizes[2], CLASSES))


class Residual(nn.Module):
    """A stem, a block with a shortcut, and a mean over pixels."""

    def __init__(self, channels: int, width: int = 12, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.inner = nn.Sequential(
            norm(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), norm(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip
        self.head = nn.Linear(4 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = self.stem(x)
        logits: Tensor = self.head(F.adaptive_avg_pool2d((z + self.inner(z)).relu(), 2).flatten(1))
        return logits


class Attending(nn.Module):
    """Self-attention over the rows of a grey image."""

    def __init__(self, height: int, wide: int, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(wide, width)
        self.layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
        self.head = nn.Linear(height * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(self.embed(x[:, 0])).flatten(1))
        return logits


def groups(width: int) -> nn.Module:
    return nn.GroupNorm(4, width)


KINDS: dict[str, Callable[[Shape], nn.Module]] = {
    "ReLU": lambda shape: perceptron(shape, nn.ReLU),
    "ReLU, wide": lambda shape: perceptron(shape, nn.ReLU, 128),
    "ReLU, tiny": lambda shape: perceptron(shape, nn.ReLU, 6),
    "tanh": lambda shape: perceptron(shape, nn.Tanh),
    "GELU": lambda shape: perceptron(shape, nn.GELU),
    "SiLU": lambda shape: perceptron(shape, nn.SiLU),
    "ELU": lambda shape: perceptron(shape, nn.ELU),
    "leaky ReLU": lambda shape: perceptron(shape, nn.LeakyReLU),
    "sigmoid": lambda shape: perceptron(shape, nn.Sigmoid),
    "batch norm": lambda shape: perceptron(shape, nn.ReLU, norm=True),
    "batch norm, dropout": lambda shape: perceptron(shape, nn.ReLU, 64, norm=True, drop=0.3),
    "dropout": lambda shape: perceptron(shape, nn.ReLU, 64, drop=0.5),
    "convolutions, batch norm": lambda shape: convolutional(shape, nn.ReLU),
    "convolutions, max pooling": lambda shape: convolutional(shape, nn.ReLU, pool=True, norm=False),
    "convolutions, GELU": lambda shape: convolutional(shape, nn.GELU, pool=True),
    "convolutions, tanh": lambda shape: convolutional(shape, nn.Tanh, norm=False),
    "convolutions, tiny": lambda shape: convolutional(shape, nn.ReLU, 3),
    "shortcut": lambda shape: Residual(shape[0]),
    "shortcut, group norm": lambda shape: Residual(shape[0], 12, groups),
    "attention": lambda shape: Attending(*shape[1:]),
    "linear": lambda shape: nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], CLASSES)),
    "LeNet": lenet,
    "LeNet, tiny": lambda shape: lenet(shape, 2),
    "LeNet, batch norm": lambda shape: lenet(shape, norm=True),
    "LeNet, batch norm, dropout": lambda shape: lenet(shape, norm=True, drop=0.3),
}
_LENETS = tuple(kind for kind in KINDS if kind.startswith("LeNet"))


@dataclass(frozen=True)
class Setting:
    """A data set and the networks that are trained on it, for `epochs` before and `further` after each pruning.

    Planted networks stand around the adversarially trained, dense one of the kind `base`.
    """

    data: Data
    kinds: tuple[str, ...]
    base: str
    eps: float
    epochs: int = 3
    further: int = 1
    batch: int = 64
    lr: float = 2e-3


_GREY = ("ReLU", "ReLU, tiny", "batch norm, dropout", *_LENETS, "convolutions, batch norm")
_COLOUR = ("LeNet", "LeNet, tiny", "LeNet, batch norm")
_SMALL = tuple(kind for kind in KINDS if kind not in _LENETS)
SETTINGS = {
    "digits": Setting(Digits(validation=300), _SMALL, "ReLU", EPS, epochs=25, further=6, batch=128, lr=5e-3),
    "mnist": Setting(Mnist(validation=1000, limit=4000), _GREY, "LeNet", 0.1),
    "fashion_mnist": Setting(FashionMnist(validation=1000, limit=4000), _GREY, "LeNet", 0.05),
    "cifar10": Setting(Cifar10(validation=1000, limit=4000), _COLOUR, "LeNet, batch norm", 8 / 255, epochs=5),
}


@dataclass(frozen=True)
class Trained:
    """A trained network by name, and the tensors to measure it with."""

    name: str
    model: nn.Module
    state: State


def networks(
    setting: Setting, data: TrainingData, seeds: int, kinds: tuple[str, ...] = (), *, known: Collection[str] = ()
) -> Iterator[Trained]:
    """Train each kind from each seed, naturally, adversarially and with averaged weights, and prune it step by step.

    What is `known` by name is left out.
    """
    for seed in range(seeds):
        for kind in kinds or setting.kinds:
            for way in WAYS:
                name = f"{kind}, {way}, seed {seed}"
                if all(_title(name, sparsity) in known for sparsity in SPARSITIES):
                    continue
                torch.manual_seed(seed)
                model = Normalised(KINDS[kind](data.shape), Normalise(data.mean, data.std))
                chain = _chain(name, model, setting, data, way, seed)
                yield from (network for network in chain if network.name not in known)


def _title(name: str, sparsity: float) -> str:
    return f"{name}, {100 * sparsity:g} % sparse"


def _chain(name: str, model: nn.Module, setting: Setting, data: TrainingData, way: str, seed: int) -> Iterator[Trained]:
    generator = torch.Generator().manual_seed(seed)
    masks: dict[str, Tensor] = State.of(model).masks
    for sparsity in SPARSITIES:
        masks = _cut(model, masks, sparsity)
        epochs = setting.epochs if sparsity == 0 else setting.further
        averaged = _train(model, data, masks, way, setting, epochs, generator)
        state = State.of(averaged)
        yield Trained(_title(name, sparsity), averaged, State(state.params, state.buffers, masks))


def _cut(model: nn.Module, masks: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    params = dict(model.named_parameters())
    every = torch.cat([params[name].detach().abs().flatten() for name in masks])
    bound = every.sort().values[min(round(sparsity * len(every)), len(every) - 1)]
    return {name: (params[name].detach().abs() >= bound) & mask for name, mask in masks.items()}


def _train(
    model: nn.Module,
    data: TrainingData,
    masks: dict[str, Tensor],
    way: str,
    setting: Setting,
    epochs: int,
    generator: torch.Generator,
) -> nn.Module:
    """Train in place with masks; return the network, or its moving average."""
    images, labels = data.train.pixels(), data.train.y
    optimiser = torch.optim.Adam(model.parameters(), setting.lr)
    average = copy.deepcopy(model)
    attack = Pgd(steps=4, step_size=0.4)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(setting.batch):
            x, y = images[batch], labels[batch]
            if way == "adversarial":
                x = run(attack, model.eval(), x, y, eps=setting.eps, generator=generator, keep="last")
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
