"""A trial of the glue that `glue.py` measures us against: what a good engineer writes around torch in a day.

The network as an `nn.Sequential`, a DataLoader, PGD by the steps of torchattacks (without its wrapper, which costs
more), `torch.nn.utils.prune`, lottery tickets with rewinding. Nothing here is ours; `glue.py --agreement` checks that
both sides' networks are equally robust.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

Params = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What all trials of a search share: plain numbers of a study."""

    model: str
    hidden: tuple[int, ...]
    epochs: int
    round_epochs: int | None
    rate: float
    batch: int
    lr: float
    warmup: float
    clean: float
    attack_steps: int
    attack_share: float
    flip: bool
    test_eps: float
    test_steps: int
    examples: int


@dataclass(frozen=True)
class Data:
    """Images as pixels in [0, 1] (N, C, H, W) with their labels, and the training pixels' mean and deviation."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    mean: Sequence[float]
    std: Sequence[float]


class Normalise(nn.Module):
    """The first layer: pixels to mean 0 and deviation 1."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def network(setting: Setting, data: Data) -> nn.Sequential:
    """Build LeNet-300-100 with the given widths, or LeNet-5; Glorot-normal weights, no biases at first."""
    channels, height, width = data.x.shape[1:]
    normalise = Normalise(data.mean, data.std)
    if setting.model == "lenet300":
        first, second = setting.hidden
        net = nn.Sequential(
            *(normalise, nn.Flatten()),
            *(nn.Linear(channels * height * width, first), nn.ReLU(inplace=True)),
            *(nn.Linear(first, second), nn.ReLU(inplace=True), nn.Linear(second, 10)),
        )
    else:
        side = ((height - 4) // 2 - 4) // 2
        net = nn.Sequential(
            normalise,
            *(nn.Conv2d(channels, 20, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(20, 50, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(50 * side * side, 500), nn.ReLU(inplace=True), nn.Linear(500, 10)),
        )
    for layer in prunable(net):
        nn.init.xavier_normal_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    return net


def prunable(net: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """Return the layers whose weights are pruned."""
    return [layer for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]


def pgd(net: nn.Module, x: Tensor, y: Tensor, *, eps: float, step: float, steps: int) -> Tensor:
    """Attack as torchattacks.PGD does: a random start, signed steps, projection to the ball and the box."""
    start = torch.empty_like(x).uniform_(-eps, eps)
    attacked = torch.clamp(x + start, 0, 1)
    for _ in range(steps):
        attacked.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(net(attacked), y), attacked)
        attacked = attacked.detach() + step * gradient.sign()
        attacked = torch.clamp(x + torch.clamp(attacked - x, -eps, eps), 0, 1).detach()
    return attacked


def levels(rate: float, sparsity: float) -> list[float]:
    """Return the sparsity after each round of pruning `rate` of what is left, the last cut short at `sparsity`."""
    found: list[float] = []
    while sparsity and (not found or found[-1] < sparsity):
        found.append(min(1 - (1 - rate) ** (len(found) + 1), sparsity))
    return found


def cut(net: nn.Module, sparsity: float) -> None:
    """Prune the smallest weights of all layers together, to this share of all weights."""
    layers = prunable(net)
    size = sum(layer.weight.numel() for layer in layers)
    zeros = sum(int((layer.weight_mask == 0).sum()) for layer in layers if prune.is_pruned(layer))
    count = round(sparsity * size) - zeros
    if count > 0:
        prune.global_unstructured(
            [(layer, "weight") for layer in layers], pruning_method=prune.L1Unstructured, amount=count
        )


def weights(net: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters by the names that they have without pruning."""
    return {name.removesuffix("_orig"): value.detach().clone() for name, value in net.named_parameters()}


def rewind(net: nn.Module, to: dict[str, Tensor]) -> None:
    """Set all parameters to earlier values; masks stay."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(to[name.removesuffix("_orig")])


def effective(net: nn.Module) -> dict[str, Tensor]:
    """Return all parameters with the pruned weights at 0: the network as it is used."""
    found = weights(net)
    for name, layer in net.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            found[f"{name}.weight"] = layer.weight.detach().clone()
    return found


class Trial:
    """One suggestion: train, then cut, rewind and train again until the sparsity is reached."""

    def __init__(self, setting: Setting, data: Data, params: Params, seed: int) -> None:
        self.setting, self.data = setting, data
        self.sparsity = float(params["recipe.sparsity"])
        self.eps = float(params["recipe.train.eps"])
        self.to = params["recipe.rewind"]
        self.l1 = float(params["recipe.train.regularisers.l1"])
        self.epochs = 0
        torch.manual_seed(seed)
        self.net = network(setting, data)
        # What is measured: without the hooks of `prune`, which multiply by the masks in every pass.
        self.plain = network(setting, data).eval().requires_grad_(False)
        sampler = BatchSampler(RandomSampler(range(len(data.y))), setting.batch, drop_last=False)
        # Whole batches are fetched by index, which is several times as fast as collating single images.
        self.loader = DataLoader(TensorDataset(data.x, data.y), sampler=sampler, batch_size=None)

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield each measured network: when, its sparsity, its accuracy under PGD, and its weights."""
        initial = weights(self.net)
        at = self.to if isinstance(self.to, int) else 0
        early = self._train(self.setting.epochs, keep=at)
        targets = {"init": initial, "dense_trained": weights(self.net), at: early}
        yield self._measured()
        for level in levels(self.setting.rate, self.sparsity):
            cut(self.net, level)
            if self.to == "random":
                fresh = network(self.setting, self.data)
                rewind(self.net, weights(fresh))
            elif self.to != "none":
                rewind(self.net, targets[self.to])
            if self.setting.round_epochs is None:
                self._train(self.setting.epochs, start=at)
            else:
                self._train(self.setting.round_epochs)
            yield self._measured()

    def _train(self, epochs: int, start: int = 0, keep: int = 0) -> dict[str, Tensor]:
        """Train from epoch `start` to `epochs`; return the weights after epoch `keep`."""
        setting, net, kept = self.setting, self.net, {}
        optimiser = torch.optim.Adam(net.parameters(), lr=setting.lr, fused=True)
        layers, steps = prunable(net), len(self.loader)
        net.train()
        for epoch in range(start, epochs):
            for step, (x, y) in enumerate(self.loader):
                for group in optimiser.param_groups:
                    group["lr"] = setting.lr * cosine(epoch + step / steps, epochs, setting.warmup)
                if setting.flip:
                    x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
                loss = self._loss(x, y)
                if self.l1:
                    loss = loss + self.l1 * sum(layer.weight.abs().sum() for layer in layers)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            self.epochs += 1
            if epoch + 1 == keep:
                kept = weights(net)
        return kept

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.eps:
            return F.cross_entropy(self.net(x), y)
        setting = self.setting
        attacked = pgd(self.net, x, y, eps=self.eps, step=setting.attack_share * self.eps, steps=setting.attack_steps)
        loss = F.cross_entropy(self.net(attacked), y)
        if setting.clean:
            loss = (1 - setting.clean) * loss + setting.clean * F.cross_entropy(self.net(x), y)
        return loss

    def _measured(self) -> dict[str, Any]:
        setting, data, net = self.setting, self.data, self.plain
        rewind(net, effective(self.net))
        x, y = data.held_x[: setting.examples], data.held_y[: setting.examples]
        right = 0
        for images, labels in zip(x.split(setting.batch), y.split(setting.batch), strict=True):
            step = 2.5 * setting.test_eps / setting.test_steps
            attacked = pgd(net, images, labels, eps=setting.test_eps, step=step, steps=setting.test_steps)
            with torch.no_grad():
                right += int((net(attacked).argmax(1) == labels).sum())
        layers = prunable(net)
        zeros = sum(int((layer.weight == 0).sum()) for layer in layers)
        return {
            "time": time.time(),
            "robust": right / len(y),
            "sparsity": zeros / sum(layer.weight.numel() for layer in layers),
            "state": weights(net),
        }


def cosine(epoch: float, epochs: int, warmup: float) -> float:
    """Return the factor of the learning rate: a linear rise, then half a cosine."""
    if epoch < warmup:
        return epoch / warmup
    return (1 + math.cos(math.pi * min(1.0, (epoch - warmup) / (epochs - warmup)))) / 2
