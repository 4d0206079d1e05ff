"""How a budget of weights is shared between layers, exactly: uniform, ERK, IGQ and LAMP densities."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Layers = Literal["uniform", "erk", "igq", "lamp"]

_BISECTIONS = 200


def quotas(layers: Layers, total: int, weights: Sequence[Tensor], masks: Sequence[Tensor]) -> list[int]:
    """Divide `total` living weights between layers, none getting more than live in it now.

    The sum is exact wherever that many weights live. `weights` matter to `lamp` alone.
    """
    shapes = [tuple(mask.shape) for mask in masks]
    sizes = [prod(shape) for shape in shapes]
    limits = [int(mask.sum()) for mask in masks]
    if layers == "erk":
        return share(total, erk(shapes), limits)
    if layers == "igq":
        return igq(total, sizes, limits)
    if layers == "lamp":
        return _lamp_quotas(total, weights, masks)
    return share(total, sizes, limits)


def erk(shapes: Sequence[Sequence[int]]) -> list[int]:
    """Return the Erdos-Renyi-Kernel weighting: living weights in proportion to the sum of a layer's dimensions.

    That is a density in proportion to the sum of the dimensions over their product.
    Source: Evci et al. 2020, arXiv:1911.11134; Mocanu et al. 2018, arXiv:1707.04780.
    """
    return [sum(shape) for shape in shapes]


def igq(total: int, sizes: Sequence[int], limits: Sequence[int]) -> list[int]:
    """Divide `total` by ideal gas quotas: a layer of n weights gets the density 1 / (F n + 1), one F for all.

    As if each layer were a gas in a cylinder and the same force compressed all of them. A layer at its limit
    stays there, the others share the rest. Source: Vysogorets & Kempe 2021, arXiv:2107.02306.
    """
    if sum(limits) <= total:
        return list(limits)
    if total <= 0:
        return [0] * len(sizes)

    def compressed(force: float) -> list[float]:
        return [min(float(limit), n / (force * n + 1)) for n, limit in zip(sizes, limits, strict=True)]

    low, high = 0.0, 1.0
    while sum(compressed(high)) > total:
        high *= 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if sum(compressed(middle)) > total:
            low = middle
        else:
            high = middle
    return _rounded(total, compressed(high), limits)


def lamp(weights: Tensor, mask: Tensor) -> Tensor:
    """Return layer-adaptive magnitude scores: a weight's square over that of all living weights not smaller than it.

    The largest weight of every layer scores 1. Shaped like `weights`, in double precision; 0 where the mask is False.
    Source: Lee et al. 2021, arXiv:2010.07611.
    """
    import torch

    squares = torch.where(mask, weights.detach().double().square(), 0.0).reshape(-1)
    ordered, places = squares.sort(descending=True, stable=True)
    above = ordered.cumsum(0)
    scores = torch.zeros_like(squares)
    scores[places] = torch.where(above > 0, ordered / above.clamp_min(1e-300), 0.0)
    return scores.view(weights.shape)


def _lamp_quotas(total: int, weights: Sequence[Tensor], masks: Sequence[Tensor]) -> list[int]:
    """Count how many living weights of each layer are among the `total` of highest LAMP score."""
    import torch

    from trainables.pruning.topk import top_k

    flat = torch.cat([lamp(w, mask).reshape(-1) for w, mask in zip(weights, masks, strict=True)])
    living = torch.cat([mask.reshape(-1) for mask in masks])
    best = torch.split(top_k(flat, total, living), [mask.numel() for mask in masks])
    return [int(kept.sum()) for kept in best]


def share(total: int, sizes: Sequence[int], limits: Sequence[int]) -> list[int]:
    """Divide `total` in proportion to `sizes`, exactly, by largest remainder, none above its limit.

    A layer that has fewer living weights than its share passes the rest on to the others. Gives
    `limits` back where their sum does not reach `total`.
    """
    if sum(limits) <= total:
        return list(limits)
    found = [0] * len(sizes)
    free = list(range(len(sizes)))
    while free:
        left = total - sum(found)
        weight = sum(sizes[i] for i in free)
        full = [i for i in free if left * sizes[i] >= limits[i] * weight]
        if not full:
            break
        for i in full:
            found[i] = limits[i]
        free = [i for i in free if i not in full]
    left = total - sum(found)
    weight = sum(sizes[i] for i in free)
    for i in free:
        found[i] = left * sizes[i] // weight
    by_remainder = sorted(free, key=lambda i: (-(left * sizes[i] % weight), i))
    for i in by_remainder[: total - sum(found)]:
        found[i] += 1
    return found


def _rounded(total: int, exact: Sequence[float], limits: Sequence[int]) -> list[int]:
    """Round numbers that add up to `total`, but for a hair, by largest remainder within the limits."""
    found = [min(int(part), limit) for part, limit in zip(exact, limits, strict=True)]
    by_remainder = sorted(range(len(found)), key=lambda i: (found[i] - exact[i], i))
    while sum(found) < total:
        for i in by_remainder:
            if found[i] < limits[i] and sum(found) < total:
                found[i] += 1
    return found
