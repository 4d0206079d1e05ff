"""The values of a protocol's metrics for a measured network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real

import torch
from torch import Tensor, nn

from trainables.core import heartbeat
from trainables.core.errors import SpecError
from trainables.core.keys import canonical_json
from trainables.core.rng import derive
from trainables.core.spec import plain
from trainables.core.unchanged import unchanged
from trainables.data.tensors import Split
from trainables.method.protocol import Protocol
from trainables.metrics.base import Metric, MetricContext, Trainings
from trainables.store.state import State


def values(
    net: nn.Module,
    state: State,
    protocol: Protocol,
    split: Split,
    clean: Tensor,
    robust: Tensor,
    *,
    origin: Callable[[], State] | None,
    trainings: Callable[[], Trainings | None],
) -> dict[str, float | None]:
    """Return the values of all metrics by name, None for those that are not finite.

    `net` has the tensors of `state`, is in eval mode and on its device; `clean` and `robust` (N,) are the verdicts on
    the first N images of the split.

    Raises:
        SpecError: two metrics have the same name, or one needs the initial network, which is unknown.
    """
    if not protocol.metrics:
        return {}
    device = next(net.parameters()).device
    part = slice(0, len(clean))
    x = split.pixels(part).to(device).contiguous(memory_format=torch.channels_last)
    y = split.y[part].to(device)
    shared = {"the images": x, "the labels": y, **dict(net.named_parameters()), **state.params, **state.masks}
    found: dict[str, float | None] = {}
    for metric in protocol.metrics:
        heartbeat.beat()
        context = MetricContext(
            net=net,
            state=state,
            x=x,
            y=y,
            eps=float(protocol.eps),
            norm=protocol.attack.norm,
            clean_correct=clean.to(device),
            robust_correct=robust.to(device),
            origin=origin or _unknown,
            generator=torch.Generator(device).manual_seed(_seed(metric, protocol)),
            trainings=trainings,
        )
        with unchanged(f"the metric {metric.kind}", shared):
            own = metric.values(context)
        _check_values(metric, own)
        for name, value in own.items():
            if name in found:
                raise SpecError(f"protocol.metrics: two metrics have the name {name}")
            value = float(value) if isinstance(value, Tensor) else value
            found[name] = value if math.isfinite(value) else None  # An accuracy keeps its outcomes.
    return found


def _check_values(metric: Metric, own: object) -> None:
    if not isinstance(own, Mapping):
        raise SpecError(f"the metric {metric.kind} returns a {type(own).__name__}, not a dictionary of numbers by name")
    for name, value in own.items():
        number = isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)
        if not (isinstance(name, str) and name.isprintable() and number):
            raise SpecError(
                f"the metric {metric.kind} returns a {type(value).__name__} named {name!r}; a name is a text in one "
                "line, and a value a number, such as float(tensor)"
            )


def _seed(metric: Metric, protocol: Protocol) -> int:
    """Return a seed that does not depend on other metrics, so that adding one changes no number of another."""
    return derive("metric", protocol.seed, canonical_json(plain(metric, defaults=False, hashed=True)))


def _unknown() -> State:
    raise SpecError("protocol.metrics: a metric compares with the initial network, which is unknown")
