"""The cut: from scores to masks with an exact budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainables.core.amounts import amount
from trainables.core.errors import SpecError
from trainables.core.unchanged import unchanged
from trainables.pruning import Pruning
from trainables.pruning.base import PrunerContext
from trainables.pruning.coupled import keep_coupled
from trainables.pruning.densities import Uniform, lifted, quotas, share
from trainables.pruning.filters import keep_filters
from trainables.pruning.network import Network
from trainables.pruning.patterns import keep_pattern
from trainables.pruning.rates import Rates
from trainables.pruning.topk import highest, top_k
from trainables.store.state import State, Tensors

View = Callable[[State, torch.Generator], Network]
"""Returns what a pruner that needs the network sees of it in a state."""


def prune(
    pruning: Pruning,
    sparsity: float,
    state: State,
    generator: torch.Generator,
    view: View | None = None,
    rates: Rates | None = None,
) -> State:
    """Cut a network to a sparsity, in as many cuts as the pruner asks for; what was cut before stays cut.

    By `rates` it is cut once: they are shares of what the layers have before it.

    Exactly `size - round(sparsity * size)` weights live afterwards, or all that lived before if
    those are fewer. Filters are cut whole, so that up to that many live, and with them go the readers and batch norms
    that `view` shows; an n:m pattern leaves what it gives.

    Raises:
        SpecError: the layers that may be pruned have too few weights for the sparsity.
        ValueError: the pruner returned scores that are not finite or not shaped like the weights, or asks to see the
            network and there is no `view`.
    """
    steps = pruning.pruner.sparsities(state.mask_sparsity(), sparsity) if rates is None else (sparsity,)
    for step in steps:
        state = _prune(pruning, step, state, generator, view, rates)
    return state


def below(threshold: float, state: State) -> State:
    """Cut every prunable weight whose absolute value is below a threshold; what was cut before stays cut."""
    kept = {name: state.masks[name] & (state.params[name].abs() >= threshold) for name in state.prunable()}
    return replace(state, masks={**state.masks, **kept}, history={}).masked()


def _prune(
    pruning: Pruning,
    sparsity: float,
    state: State,
    generator: torch.Generator,
    view: View | None,
    rates: Rates | None,
) -> State:
    names = list(state.prunable())
    spared = pruning.spared(names)
    open_names = [name for name in names if name not in spared]
    keep = state.size() - round(sparsity * state.size())
    keep_open = keep - sum(int(state.masks[name].sum()) for name in spared)
    if not open_names or (keep_open < 0 and pruning.structure == "unstructured"):
        raise SpecError(
            f"a sparsity of {sparsity:g} leaves {keep} of {state.size()} weights, fewer than the layers that "
            f"are not pruned hold ({', '.join(sorted(spared))}); lower it or prune those layers too"
        )
    weights = {name: state.params[name] for name in open_names}
    masks = {name: state.masks[name] for name in open_names}
    network = None if view is None else view(state, generator)
    shared = {f"the weight {name}": weight for name, weight in weights.items()}
    shared |= {f"the mask of {name}": mask for name, mask in masks.items()}
    with unchanged(f"the pruner {pruning.pruner.kind}", shared):
        scores = pruning.pruner.scores(PrunerContext(weights, masks, generator, network))
    _check_scores(scores, masks)
    kept = _Cut(pruning, state, weights, masks, keep, keep_open, rates, network).kept(scores)
    params = _rescaled(state, kept) if pruning.rescale else state.params
    return replace(state, params=params, masks={**state.masks, **kept}, history={}).masked()


@dataclass(frozen=True, eq=False)
class _Cut:
    """One cut: of the layers that may be pruned with their `weights` and `masks`, `keep_open` weights stay.

    `keep` are those that live in the whole network afterwards.
    """

    pruning: Pruning
    state: State
    weights: Tensors
    masks: Tensors
    keep: int
    keep_open: int
    rates: Rates | None
    network: Network | None

    def kept(self, scores: Mapping[str, Tensor]) -> Tensors:
        """Return the new masks by scores."""
        pruning = self.pruning
        if pruning.backend == "torch-pruning":
            return self._coupled(scores)
        if pruning.structure == "filter":
            return self._filters(scores)
        if pruning.pattern is not None:
            return {name: keep_pattern(scores[name], mask, *pruning.pattern) for name, mask in self.masks.items()}
        floors = _floors(pruning, self.masks, self.keep_open)
        if pruning.scope == "global" and self.rates is None:
            return _above_floors(scores, self.masks, self.keep_open, floors)
        kept: Tensors = {}
        for name, quota in self._quotas(floors).items():
            kept |= keep_best({name: scores[name]}, {name: self.masks[name]}, quota)
        return kept

    def _coupled(self, scores: Mapping[str, Tensor]) -> Tensors:
        if self.network is None:
            raise ValueError("coupled filters need the network, and weights alone were given")
        model, pruning = self.state.into(self.network.scratch()), self.pruning
        coupling = self.network.coupling
        return keep_coupled(self.state, scores, self.keep, pruning.scope, pruning.group, coupling, model)

    def _filters(self, scores: Mapping[str, Tensor]) -> Tensors:
        pruning, wiring = self.pruning, self.network.wiring if self.network else None
        densities = None if pruning.layers == Uniform() else self._densities()
        return keep_filters(
            self.state, scores, self.keep, pruning.scope, pruning.group, wiring, densities, pruning.floor
        )

    def _densities(self) -> dict[str, float]:
        """Return the layers' densities."""
        found = quotas(self.pruning.layers, max(self.keep_open, 0), self.weights, self.masks, self.network)
        return {name: quota / self.weights[name].numel() for name, quota in zip(self.masks, found, strict=True)}

    def _quotas(self, floors: Mapping[str, int]) -> dict[str, int]:
        """Return how many weights each layer keeps."""
        rates = self.rates
        if rates is None:
            return dict(zip(self.masks, lifted(self._divided, self.keep_open, floors), strict=True))
        last = list(self.state.prunable())[-1]
        living = [int(mask.sum()) for mask in self.masks.values()]
        left = [rates.left(n, last=name == last) for name, n in zip(self.masks, living, strict=True)]
        shares = share(self.keep_open, left, living) if rates.exact else left
        return dict(zip(self.masks, shares, strict=True))

    def _divided(self, total: int, names: Sequence[str]) -> list[int]:
        """Divide `total` living weights between some layers."""
        weights, masks = ({name: tensors[name] for name in names} for tensors in (self.weights, self.masks))
        return quotas(self.pruning.layers, total, weights, masks, self.network)


def _rescaled(state: State, kept: Mapping[str, Tensor]) -> Tensors:
    """Scale each output's surviving weights so that the variance of their sum stays what it was on average."""
    scaled: Tensors = {}
    for name in state.prunable():
        weight, mask = state.params[name], state.masks[name]
        before, after = (m.flatten(1).sum(dim=1) for m in (mask, kept.get(name, mask)))
        factor = (before / after.clamp_min(1)).sqrt().to(weight.dtype)
        scaled[name] = weight * factor.view(-1, *[1] * (weight.dim() - 1))
    return {**state.params, **scaled}


def _check_scores(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    if not isinstance(scores, Mapping):
        raise ValueError(f"the pruner returned a {type(scores).__name__}, not a dictionary of scores by weight")
    if scores.keys() != masks.keys():
        raise ValueError(f"the pruner scored {sorted(scores)} where {sorted(masks)} were asked for")
    for name, score in scores.items():
        if not isinstance(score, Tensor) or score.is_complex():
            given = score.dtype if isinstance(score, Tensor) else type(score).__name__
            raise ValueError(f"the pruner's scores for {name} are not a tensor of real numbers: {given}")
        if score.shape != masks[name].shape or not bool(torch.isfinite(score).all()):
            raise ValueError(f"the pruner's scores for {name} are not finite or not shaped {tuple(masks[name].shape)}")


def _floors(pruning: Pruning, masks: Mapping[str, Tensor], keep: int) -> dict[str, int]:
    """Return how many single weights each layer keeps at least.

    Raises:
        SpecError: these are more than `keep`.
    """
    living = {name: int(mask.sum()) for name, mask in masks.items()}
    floors = {name: min(amount(pruning.floor, mask.numel()), living[name]) for name, mask in masks.items()}
    if sum(floors.values()) > keep:
        raise SpecError(
            f"a floor of {pruning.floor:g} weights per layer holds {sum(floors.values())} weights, and {keep} are to "
            "be kept"
        )
    return floors


def _above_floors(
    scores: Mapping[str, Tensor], masks: Mapping[str, Tensor], keep: int, floors: Mapping[str, int]
) -> Tensors:
    """Keep each layer's best weights up to its floor, and of all others the best, `keep` in all."""
    if not any(floors.values()):
        return keep_best(scores, masks, keep)
    held = {name: highest(scores[name].double(), floor, masks[name]) for name, floor in floors.items()}
    rest = keep_best(scores, {name: masks[name] & ~held[name] for name in masks}, keep - sum(floors.values()))
    return {name: held[name] | rest[name] for name in masks}


def keep_best(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor], keep: int) -> Tensors:
    """Keep the `keep` living weights of highest score; among equals those of lower index."""
    flat = torch.cat([s.reshape(-1).double() for s in scores.values()])
    living = torch.cat([masks[name].reshape(-1) for name in scores])
    pieces = torch.split(top_k(flat, keep, living), [s.numel() for s in scores.values()])
    return {name: piece.view(masks[name].shape).clone() for name, piece in zip(scores, pieces, strict=True)}
