"""What every optimiser must do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.core.spec import plain
from trainables.engine.optimisation import load_slots, slots
from trainables.losses.base import Loss
from trainables.losses.cross_entropy import Madry, Natural
from trainables.optimisers import OPTIMISERS
from trainables.optimisers.base import Optimiser
from trainables.store.state import State, pack, unpack
from trainables.testing.trainings import FORMATS, end, network, phase, pruned, same, started


def parameters(memory: torch.memory_format = torch.contiguous_format) -> dict[str, nn.Parameter]:
    """Return a kernel (4, 3, 3, 3) and a vector (5,)."""
    draws = torch.Generator().manual_seed(0)
    kernel = torch.randn(4, 3, 3, 3, generator=draws).contiguous(memory_format=memory)
    return {"kernel": nn.Parameter(kernel), "vector": nn.Parameter(torch.randn(5, generator=draws))}


def quadratic(params: Mapping[str, Tensor]) -> Tensor:
    """Return half the squared distance of the parameters to 3."""
    return torch.stack([(p - 3).square().sum() for p in params.values()]).sum() / 2


def step(optimiser: torch.optim.Optimizer, params: Mapping[str, Tensor], slope: float = 1.0) -> float:
    """Descend `slope` times the quadratic once and return it."""
    optimiser.zero_grad(set_to_none=True)
    loss = quadratic(params)
    (slope * loss).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return float(loss.detach())


class OptimiserKit:
    """Tests of an optimiser."""

    @pytest.fixture
    def optimiser(self) -> Optimiser:
        """Return the optimiser to test."""
        raise NotImplementedError

    def test_reduces_a_quadratic(self, optimiser: Optimiser) -> None:
        params = parameters()
        built = optimiser.build(params.values())
        losses = [step(built, params) for _ in range(50)]
        assert losses[-1] < losses[0]
        assert all(bool(p.isfinite().all()) for p in params.values())

    def test_follows_the_learning_rate_that_is_set_before_a_step(self, optimiser: Optimiser) -> None:
        params = parameters()
        built = optimiser.build(params.values())
        before = {name: p.detach().clone() for name, p in params.items()}
        for group in built.param_groups:
            assert group["lr"] == optimiser.lr
            group["lr"] = 0.0
        step(built, params)
        assert all(torch.equal(p, before[name]) for name, p in params.items())

    def test_decays_what_is_to_decay(self, optimiser: Optimiser) -> None:
        params = parameters()
        decaying = optimiser.model_copy(update={"weight_decay": 0.1})
        groups: list[dict[str, Any]] = [
            {"params": [params["kernel"]]},
            {"params": [params["vector"]], "weight_decay": 0.0},
        ]
        built = decaying.build(groups)
        before = {name: p.detach().clone() for name, p in params.items()}
        for _ in range(3):
            step(built, params, slope=0.0)
        assert float(params["kernel"].detach().norm()) < float(before["kernel"].norm())
        assert torch.equal(params["vector"], before["vector"])

    def test_zeros_can_be_left_out_of_tensors_where_it_says_so(self, optimiser: Optimiser) -> None:
        """A filter and an input of zeros without gradients stay so, and change no other entry."""
        if not optimiser.entrywise:
            return
        whole = nn.Parameter(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)))
        with torch.no_grad():
            whole[0], whole[:, 1] = 0.0, 0.0
        small = nn.Parameter(whole.detach()[1:][:, [0, 2]].clone())
        built = [optimiser.build([p]) for p in (whole, small)]
        for _ in range(4):
            for p, one in zip((whole, small), built, strict=True):
                one.zero_grad()
                (p.square() * p.sign()).sum().backward()  # type: ignore[no-untyped-call]
                one.step()
        assert not bool(whole[0].any() | whole[:, 1].any())
        torch.testing.assert_close(whole[1:][:, [0, 2]], small, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("memory", FORMATS)
    def test_resumes_from_its_slots_to_the_same_bits(self, optimiser: Optimiser, memory: str) -> None:
        params = parameters(FORMATS[memory])
        built = optimiser.build(params.values())
        for _ in range(3):
            step(built, params)
        kept = unpack(pack({"slots": slots(built, params)})).get("slots", {})
        again = {name: nn.Parameter(p.detach().clone()) for name, p in params.items()}
        resumed = optimiser.build(again.values())
        load_slots(resumed, again, kept)
        for _ in range(3):
            step(built, params)
            step(resumed, again)
        assert all(torch.equal(p, again[name]) for name, p in params.items())

    @pytest.mark.parametrize("loss", [Natural(), Madry()], ids=["natural", "madry"])
    def test_a_training_holds_masks_exactly_and_resumes_to_the_same_bits(
        self, optimiser: Optimiser, loss: Loss
    ) -> None:
        spec = phase(epochs=3, optimiser=optimiser, ema=0.9, loss=loss)
        begin = pruned(State.of(network()))
        whole = started(spec, begin)
        checkpoint = unpack(pack(next(whole).checkpoint()))
        for name in begin.prunable():
            for group in ("params", "average"):
                assert not bool(checkpoint[group][name][~begin.masks[name]].any()), (group, name)
        wanted, resumed = end(whole).state(), end(started(spec, begin, resume=(1, checkpoint))).state()
        assert same(wanted, resumed)
        assert not same(wanted, begin)
        assert all(not bool(wanted.params[name][~begin.masks[name]].any()) for name in begin.prunable())

    def test_survives_json(self, optimiser: Optimiser) -> None:
        assert OPTIMISERS.parse(json.loads(json.dumps(plain(optimiser)))) == optimiser
