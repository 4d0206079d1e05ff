"""Learned masks: scores of frozen weights, and densities of layers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainables.pruning.cut import keep_best
from trainables.pruning.densities import LayerDensities, Uniform, quotas
from trainables.pruning.topk import highest
from trainables.reparametrisations.base import EffectiveWeights, TrainRest
from trainables.store.state import FORCED, State, Tensors

if TYPE_CHECKING:
    from trainables.pruning.network import Network

SCORES, _RATES, _GAMMA, _QUOTAS = "scores/", "rates", "gamma", "quotas"


@dataclass(frozen=True)
class Sharpness:
    """How far scores move up the loss before each step, as a share of a layer's, from a share of the training on."""

    s2ap: float = 0.0
    warmup: float = 0.0

    def at(self, done: float) -> float:
        """Return the share of their norm by which scores move where a share `done` of the training is done."""
        return self.s2ap if done >= self.warmup else 0.0


_REACHED = 5e-5
"""The relative excess below which the budget counts as reached: the code rounds it to four places."""


@dataclass(frozen=True)
class Densities:
    """Settings of trained densities; the fields are those of `trainables.reparametrisations.learned.Rated`."""

    sparsity: float
    least: float
    begin: float
    gamma: float
    layers: LayerDensities


class _Learned(EffectiveWeights):
    """Scores of the units of some layers, which are used or not; here a unit is a single weight.

    Pruned units are never used. `names` are the layers, by default all. `network` is there for densities of layers that
    need it. The scores alone move up the loss before a step, as `sharpness` says: the weights are frozen.
    """

    def __init__(
        self,
        state: State,
        sparsity: float,
        train_rest: TrainRest,
        names: tuple[str, ...] | None = None,
        sharpness: Sharpness | None = None,
    ) -> None:
        super().__init__()
        self._sharpness = sharpness or Sharpness()
        self._names = state.prunable() if names is None else names
        self._living = {name: self._alive(state.masks[name]) for name in self._names}
        self._sizes = [units.numel() for units in self._living.values()]
        self._limits = [int(units.sum()) for units in self._living.values()]
        self._keep = state.size() - round(sparsity * state.size())
        trained = (
            state.norms() if train_rest == "norms" else state.params.keys() - state.prunable() if train_rest else ()
        )
        self.frozen = frozenset(state.params.keys() - trained)
        for name in self._names:
            weight = state.params[name].detach()
            units = self._worth(weight)
            scale = math.sqrt(6 / weight[0].numel()) / units.abs().amax().clamp_min(1e-12)
            self.extras[SCORES + name] = nn.Parameter(units * scale)

    def climbs(self, done: float, awp: float) -> Mapping[str, float]:
        return dict.fromkeys((SCORES + name for name in self._names), self._sharpness.at(done))

    def _alive(self, mask: Tensor) -> Tensor:
        """Return which units of a layer are not pruned."""
        return mask

    def _worth(self, weight: Tensor) -> Tensor:
        """Return a layer's initial scores, up to a factor."""
        return weight

    def _heights(self, extras: Mapping[str, Tensor]) -> Tensors:
        """Return absolute scores, by which units are chosen; -1 where one is pruned."""
        return {n: torch.where(self._living[n], extras[SCORES + n].detach().abs(), -1.0) for n in self._names}

    @abstractmethod
    def _masks(self, extras: Mapping[str, Tensor]) -> Tensors:
        """Return the masks of the training's result."""

    def fold(self, state: State, extras: Mapping[str, Tensor]) -> State:
        return replace(state, masks={**state.masks, **self._masks(extras)}).masked()


class ScoredWeights(_Learned):
    """Scores; layers keep what a rule gives them, the same share by default."""

    def __init__(
        self,
        state: State,
        sparsity: float,
        train_rest: TrainRest,
        layers: LayerDensities,
        sharpness: Sharpness | None = None,
        network: Network | None = None,
    ) -> None:
        super().__init__(state, sparsity, train_rest, sharpness=sharpness)
        found = _shared(layers, self._keep, state, network)
        self._quotas = torch.tensor(found)
        if layers != Uniform():
            # A resumed training keeps those it began with, whatever a device makes of the rule again.
            self.kept[_QUOTAS] = self._quotas

    def weights(
        self, params: Mapping[str, Tensor], extras: Mapping[str, Tensor], draws: torch.Generator | None
    ) -> dict[str, Tensor]:
        heights = self._heights(extras)
        return {
            name: params[name].detach() * through(highest(heights[name], quota).float(), extras[SCORES + name])
            for name, quota in zip(self._names, self._quotas.tolist(), strict=True)
        }

    def _masks(self, extras: Mapping[str, Tensor]) -> Tensors:
        heights = self._heights(extras)
        return {n: highest(heights[n], quota) for n, quota in zip(self._names, self._quotas.tolist(), strict=True)}


class RatedWeights(_Learned):
    """Scores, and a density for each layer.

    `uses` says, by weight, how many times an image uses each entry of it, where the penalty counts that.
    """

    undecayed = frozenset({_RATES})

    def __init__(
        self,
        state: State,
        settings: Densities,
        train_rest: TrainRest,
        uses: Mapping[str, int] | None = None,
        names: tuple[str, ...] | None = None,
        sharpness: Sharpness | None = None,
        network: Network | None = None,
    ) -> None:
        super().__init__(state, settings.sparsity, train_rest, names, sharpness)
        self._costs = {name: mask.numel() * (uses.get(name, 0) if uses else 1) for name, mask in state.masks.items()}
        self._wanted, self._gamma = 1 - settings.sparsity, settings.gamma
        self._least = settings.least * self._wanted
        begin = max(settings.begin, self._even())
        densities = [begin] * len(self._names)
        if settings.layers != Uniform():
            found = _shared(settings.layers, round(begin * state.size()), state, network)
            densities = [quota / size for quota, size in zip(found, self._sizes, strict=True)]
        device = state.params[self._names[0]].device
        self.extras[_RATES] = nn.Parameter(torch.tensor([self._rate(d) for d in densities], device=device))
        self.kept[_GAMMA] = torch.full((), settings.gamma, device=device)

    def _rate(self, density: float) -> float:
        """Return the q of a density."""
        # A density of 1, or of the floor, is at an infinite q.
        share_of_range = min(max((density - self._least) / (1 - self._least), 1e-3), 1 - 1e-3)
        return math.log(share_of_range / (1 - share_of_range))

    def _even(self) -> float:
        """Return the density that, the same in all layers, would be about the wanted one."""
        return self._wanted

    def densities(self, extras: Mapping[str, Tensor]) -> Tensor:
        """Return the layers' densities (layers,), differentiable in q."""
        return self._least + (1 - self._least) * extras[_RATES].sigmoid()

    def excess(self, extras: Mapping[str, Tensor]) -> Tensor:
        """Return the relative excess of what is used over what is wanted, a scalar."""
        densities = self.densities(extras)
        costs = densities.new_tensor([self._costs[name] for name in self._names])
        return (densities * costs).sum() / costs.sum() / self._wanted - 1

    def begin(self, epoch: int) -> None:
        """Let the penalty's weight grow, unless it has stopped growing because what is wanted was reached."""
        with torch.no_grad():
            grew = epoch == 0 or torch.equal(self.kept[_GAMMA], torch.full_like(self.kept[_GAMMA], self._gamma * epoch))
            if grew and (epoch == 0 or float(self.excess(self.extras)) >= _REACHED):
                self.kept[_GAMMA].fill_(self._gamma * (epoch + 1))

    def penalty(self) -> Tensor:
        return self.kept[_GAMMA] * self.excess(self.extras).relu()

    def followed(self, rate: float) -> Tensor:
        """Return the factor with which one step of the rate brings the excess to 0, to first order."""
        excess = self.excess(self.extras)
        (slope,) = torch.autograd.grad(excess, self.extras[_RATES])
        pull = rate * self.kept[_GAMMA] * slope.square().sum()
        return excess.detach() / pull.clamp_min(1e-12)

    def fold(self, state: State, extras: Mapping[str, Tensor]) -> State:
        return self._noted(super().fold(state, extras), extras)

    def _noted(self, state: State, extras: Mapping[str, Tensor]) -> State:
        """Note which share of what is used is cut by force at the end."""
        with torch.no_grad():
            excess = self.excess(extras).relu().double()
        return replace(state, notes={FORCED: excess / (1 + excess)})

    def weights(
        self, params: Mapping[str, Tensor], extras: Mapping[str, Tensor], draws: torch.Generator | None
    ) -> dict[str, Tensor]:
        densities = self.densities(extras)
        return {
            name: params[name].detach() * through(chosen, extras[SCORES + name], density)
            for (name, chosen), density in zip(self._chosen(extras).items(), densities, strict=True)
        }

    def _chosen(self, extras: Mapping[str, Tensor]) -> Tensors:
        """Return 1 for every unit that is used and 0 for the others, at least one in each layer."""
        counts = [max(1, round(d * n)) for d, n in zip(self.densities(extras).tolist(), self._sizes, strict=True)]
        return {
            name: highest(height, count).float()
            for (name, height), count in zip(self._heights(extras).items(), counts, strict=True)
        }

    def _priorities(self, extras: Mapping[str, Tensor]) -> Tensors:
        """Return what ranks the units at the end, such that densities keep their proportions.

        The unit of rank r in a layer stays when all densities are scaled by r / (density * size) or more.
        """
        heights, densities = self._heights(extras), self.densities(extras).detach()
        return {
            name: density.double() * height.numel() / _ranks(height)
            for (name, height), density in zip(heights.items(), densities, strict=True)
        }

    def _masks(self, extras: Mapping[str, Tensor]) -> Tensors:
        return keep_best(self._priorities(extras), self._living, self._keep)


def _shared(layers: LayerDensities, total: int, state: State, network: Network | None) -> list[int]:
    """Divide `total` living weights between the layers of a state by a rule."""
    names = state.prunable()
    weights = {name: state.params[name].detach() for name in names}
    return quotas(layers, total, weights, {name: state.masks[name] for name in names}, network)


def through(mask: Tensor, scores: Tensor, density: Tensor | None = None) -> Tensor:
    """Return a mask with straight-through gradients to the absolute scores and to the layer's density."""
    size = scores.abs()
    # The differences are exactly 0: adding and taking away the numbers themselves would round.
    passed = mask + (size - size.detach())
    return passed if density is None else passed + (density - density.detach())


def _ranks(heights: Tensor) -> Tensor:
    """Rank entries from the highest, 1, to the lowest."""
    order = heights.reshape(-1).sort(descending=True, stable=True).indices
    ranks = torch.empty(len(order), dtype=torch.double, device=heights.device)
    ranks[order] = torch.arange(1, len(order) + 1, dtype=torch.double, device=heights.device)
    return ranks.view(heights.shape)
