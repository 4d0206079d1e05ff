"""What every metric must do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from trainables.core.spec import plain
from trainables.metrics import METRICS
from trainables.metrics.base import Metric, MetricContext
from trainables.store.state import State

EXAMPLES = 6


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def context(memory: torch.memory_format = torch.contiguous_format, seed: int = 0) -> MetricContext:
    net = network()
    state = State.of(net)
    draw = torch.Generator().manual_seed(1)
    masks = {name: torch.rand(mask.shape, generator=draw) < 0.5 for name, mask in state.masks.items()}
    history = {name: torch.tensor([1.0, 2.0]) for name in ("step", "epoch", "loss")}
    state = replace(state, masks=masks, history=history).masked()
    net = state.into(net).to(memory_format=memory)
    x = torch.rand(EXAMPLES, 1, 8, 8, generator=draw).contiguous(memory_format=memory)
    y = net(x).argmax(dim=1)
    y[0] = (y[0] + 1) % 5
    correct = torch.arange(EXAMPLES) > 0
    generator = torch.Generator().manual_seed(seed)
    origin = State.of(network())
    trainings = ({1: origin, 2: state}, {1: State.of(network(2)), 2: origin})
    return MetricContext(net, state, x, y, 0.1, "linf", correct, correct, lambda: origin, generator, lambda: trainings)


class MetricKit:
    """Tests of a metric."""

    @pytest.fixture
    def metric(self) -> Metric:
        """Return the metric to test."""
        raise NotImplementedError

    def test_gives_finite_numbers_under_names_fit_for_a_column(self, metric: Metric) -> None:
        found = metric.values(context())
        assert found
        assert all(isinstance(value, float) and value == value for value in found.values()), found
        assert all(name.replace("_", "").replace(".", "").isalnum() for name in found), list(found)

    def test_repeats_exactly_and_draws_from_its_generator_alone(self, metric: Metric) -> None:
        torch.manual_seed(1)
        first = metric.values(context())
        torch.manual_seed(1)
        second = context()
        torch.manual_seed(2)
        moved = torch.get_rng_state()
        assert metric.values(second) == first
        assert torch.equal(torch.get_rng_state(), moved)

    def test_leaves_its_context_alone(self, metric: Metric) -> None:
        given = context()
        tensors = {
            **given.net.state_dict(),
            "x": given.x,
            "y": given.y,
            "clean": given.clean_correct,
            **given.state.masks,
        }
        before = {name: t.clone() for name, t in tensors.items()}
        metric.values(given)
        assert all(torch.equal(t, before[name]) for name, t in tensors.items())
        assert not given.net.training
        assert not any(p.requires_grad or p.grad is not None for p in given.net.parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in given.net.modules())

    def test_memory_format_does_not_matter(self, metric: Metric) -> None:
        found = [metric.values(context(memory)) for memory in (torch.contiguous_format, torch.channels_last)]
        assert found[0] == pytest.approx(found[1], rel=1e-3, abs=1e-4)

    def test_survives_json(self, metric: Metric) -> None:
        assert METRICS.parse(json.loads(json.dumps(plain(metric)))) == metric
