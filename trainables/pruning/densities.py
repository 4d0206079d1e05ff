"""How a budget of weights is shared between layers, exactly: rules that need the weights alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from trainables.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.pruning.network import Network

Divide = Callable[[int, Sequence[str]], list[int]]

_BISECTIONS = 200


class LayerDensities(Spec):
    """Base of every rule of layer densities; one that uses the network and its images sets `needs_network`."""

    kind: str

    written_bare: ClassVar[bool] = True
    needs_network: ClassVar[bool] = False

    @abstractmethod
    def shares(
        self, total: int, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], network: Network | None
    ) -> Sequence[int]:
        """Return how many of `total` living weights each layer keeps, in the order of `masks`.

        No layer keeps more than live in it, True in its mask; they keep `total` together wherever that many live.

        Shapes: weights and masks as the layers' weights.
        """


def quotas(
    layers: LayerDensities,
    total: int,
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    network: Network | None = None,
) -> list[int]:
    """Divide `total` living weights between layers by a rule.

    Raises:
        ValueError: the rule needs the network, and there is none; or it broke its contract.
    """
    if layers.needs_network and network is None:
        raise ValueError(f"{layers.kind} densities need the network and its images, and were given weights alone")
    limits = living(masks)
    found = list(layers.shares(total, weights, masks, network))
    wanted = max(0, min(total, sum(limits)))
    fit = len(found) == len(limits) and all(0 <= n <= m for n, m in zip(found, limits, strict=True))
    if not fit or sum(found) != wanted:
        raise ValueError(f"{layers.kind} densities divide {wanted} weights as {found}, where layers have {limits}")
    return found


def lifted(divide: Divide, total: int, floors: Mapping[str, int]) -> list[int]:
    """Divide `total` between layers so that none gets less than its floor, which the others pay for.

    `divide` divides a number between the layers of these names; the floors add up to `total` at most.
    """
    found, free = dict(floors), list(floors)
    while free:
        left = total - sum(found[name] for name in found if name not in free)
        shares = dict(zip(free, divide(left, free), strict=True))
        low = [name for name in free if shares[name] < floors[name]]
        if not low:
            found |= shares
            break
        free = [name for name in free if name not in low]
    return list(found.values())


class Uniform(LayerDensities):
    """The same share of every layer."""

    kind: Literal["uniform"] = "uniform"

    def shares(
        self, total: int, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], network: Network | None
    ) -> list[int]:
        return share(total, [mask.numel() for mask in masks.values()], living(masks))


class Erk(LayerDensities):
    """Erdos-Renyi-Kernel: densities in proportion to the sum of a layer's dimensions over their product.

    Source: Evci et al. 2020, arXiv:1911.11134; Mocanu et al. 2018, arXiv:1707.04780.
    """

    kind: Literal["erk"] = "erk"

    def shares(
        self, total: int, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], network: Network | None
    ) -> list[int]:
        return share(total, [sum(mask.shape) for mask in masks.values()], living(masks))


class Igq(LayerDensities):
    """Ideal gas quotas: a layer of n weights gets the density 1 / (F n + 1), one F for all.

    Source: Vysogorets & Kempe 2021, arXiv:2107.02306.
    """

    kind: Literal["igq"] = "igq"

    def shares(
        self, total: int, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], network: Network | None
    ) -> list[int]:
        return igq(total, [mask.numel() for mask in masks.values()], living(masks))


class Lamp(LayerDensities):
    """Layer-adaptive magnitude: as many as a layer has among the weights of highest LAMP score (`lamp`)."""

    kind: Literal["lamp"] = "lamp"

    def shares(
        self, total: int, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], network: Network | None
    ) -> list[int]:
        import torch

        from trainables.pruning.topk import top_k

        flat = torch.cat([lamp(weights[name], mask).reshape(-1) for name, mask in masks.items()])
        alive = torch.cat([mask.reshape(-1) for mask in masks.values()])
        best = torch.split(top_k(flat, total, alive), [mask.numel() for mask in masks.values()])
        return [int(kept.sum()) for kept in best]


def living(masks: Mapping[str, Tensor]) -> list[int]:
    """Return how many weights of each layer are not pruned."""
    return [int(mask.sum()) for mask in masks.values()]


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
