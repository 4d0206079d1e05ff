"""How masks change within a training: schedules against their formulas, masks against loops, and resumption."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.trainables.engine.factories import EVERYTHING, KEY, data, network, pruned, same
from trainables.engine.epoch import Epoch
from trainables.engine.train import train
from trainables.mask_updates.base import EpochResult, MaskUpdate, MaskUpdateContext
from trainables.mask_updates.flying_bird import FlyingBird, rises
from trainables.mask_updates.gradual import Gradual
from trainables.method.phases import Train
from trainables.method.training import Training
from trainables.optimisers.adam import Adam
from trainables.optimisers.sgd import Sgd
from trainables.store.state import State, Tensors, pack, unpack


def _phase(mask_update: MaskUpdate, epochs: int = 4, **fields: Any) -> Train:
    training = Training(**{"batch": 25, "eps": 0.05, "precision": "fp32"} | fields)
    return Train(epochs=epochs, training=training, rewiring=mask_update)


def _reports(spec: Train, begin: State, **options: Any) -> list[tuple[Epoch, State, dict[str, Tensors]]]:
    reports = train(network(), begin, spec, data(), key=KEY, device="cpu", **options)
    return [(report, report.state(), report.checkpoint()) for report in reports]


def _sparsity(state: State) -> float:
    return 1 - sum(int(state.masks[name].sum()) for name in state.prunable()) / state.size()


def test_gradual_sparsity_rises_by_a_cube_and_ends_exactly() -> None:
    spec = Gradual(sparsity=0.9, begin=0.1, end=0.7, every=7)
    steps = 100
    due = [step for step in range(1, steps + 1) if spec.due(step, steps)]
    assert due == [17, 24, 31, 38, 45, 52, 59, 66, 70]
    for step in due:
        wanted = 0.9 + (0.2 - 0.9) * (1 - (step - 10) / 60) ** 3
        assert spec.sparsity_at(step, steps, 0.2) == pytest.approx(wanted)
    assert spec.sparsity_at(70, steps, 0.2) == 0.9
    assert spec.sparsity_at(70, steps, 0.95) == 0.9
    assert [spec.settled(step, steps) for step in (69, 70, 100)] == [False, True, True]
    assert Gradual(end=1.0).due(1, 1)
    assert Gradual(begin=0.995, end=1.0).due(50, 50)


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_gradual_training_cuts_by_the_schedule_and_what_is_cut_stays_cut(scope: Any) -> None:
    spec = _phase(Gradual(sparsity=0.8, every=2, end=0.75, pruning={"scope": scope}), epochs=4)  # type: ignore[arg-type]
    begin = State.of(network())
    before = begin
    found = _reports(spec, begin)
    # Three steps an epoch, of twelve; cuts after steps 2, 4, 6, 8 and 9.
    rising = spec.rewiring
    assert isinstance(rising, Gradual)
    for (_, state, _), last in zip(found, (2, 6, 9, 9), strict=True):
        assert _sparsity(state) == pytest.approx(rising.sparsity_at(last, 12, 0.0), abs=1 / state.size())
        for name in state.prunable():
            assert not bool((state.masks[name] & ~before.masks[name]).any())
            assert not bool(state.params[name][~state.masks[name]].any())
        before = state
    assert sum(int(before.masks[n].sum()) for n in before.prunable()) == begin.size() - round(0.8 * begin.size())


def _context(**fields: Any) -> MaskUpdateContext:
    draws = torch.Generator().manual_seed(4)
    weight, gradient = (torch.randn(6, 10, generator=draws) for _ in range(2))
    mask = torch.rand(6, 10, generator=draws) > 0.6
    both = {"sparse": mask, "dense": torch.ones(3, 3, dtype=torch.bool), "bias": torch.tensor([True, False])}
    params = {"sparse": weight * mask, "dense": torch.randn(3, 3, generator=draws)}
    gradients = {"sparse": gradient, "dense": torch.ones(3, 3)}
    given = {"step": 20, "steps": 100, "results": (), "initial": 0.6, "generator": draws}
    return MaskUpdateContext(params=params, masks=both, gradients=gradients, **{**given, **fields})


def test_flying_bird_drops_the_smallest_and_grows_the_steepest() -> None:
    context = _context()
    spec = FlyingBird(drop=0.5, final_drop=0.1)
    share = 0.1 + 0.4 * (1 + math.cos(math.pi * 0.2)) / 2
    assert spec.share(20, 100) == pytest.approx(share)
    found = spec.masks(context)
    mask = context.masks["sparse"].reshape(-1)
    weight, slope = context.params["sparse"].reshape(-1).abs(), context.gradients["sparse"].reshape(-1).abs()
    living = [i for i in range(60) if mask[i]]
    count = round(share * len(living))
    left = set(sorted(living, key=lambda i: -float(weight[i]))[: len(living) - count])
    grown = set(sorted(set(range(60)) - left, key=lambda i: -float(slope[i]))[:count])
    assert set(found["sparse"].reshape(-1).nonzero().flatten().tolist()) == left | grown
    assert torch.equal(found["dense"], context.masks["dense"])
    assert torch.equal(found["bias"], context.masks["bias"])
    again = spec.model_copy(update={"grow": "random"}).masks(_context())
    assert int(again["sparse"].sum()) == int(mask.sum())
    assert not torch.equal(again["sparse"], found["sparse"])
    kept = FlyingBird(drop=0, final_drop=0).masks(context)
    assert all(torch.equal(kept[name], context.masks[name]) for name in context.masks)


def _results(gaps: list[float], losses: list[float]) -> list[EpochResult]:
    return [EpochResult(i, 0.5 + gap, 0.5, loss) for i, (gap, loss) in enumerate(zip(gaps, losses, strict=True))]


@pytest.mark.parametrize(
    ("gaps", "losses", "lost", "grown"),
    [
        ([0, 1, 0, 1, 0], [5, 4, 3, 2, 1], 0.4, 0.0),
        ([5, 4, 3, 2, 1], [0, 0, 1, 2, 2], 0.0, 0.05),
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], 0.4, 0.05),
        ([5, 4, 3, 4, 3], [0, 0, 0, 0, 1], 0.0, 0.0),
        ([0, 1, 2, 3], [0, 1, 2, 3], 0.0, 0.0),
    ],
)
def test_plus_lets_the_density_follow_the_training(gaps: Any, losses: Any, lost: float, grown: float) -> None:
    spec = FlyingBird(plus=True, drop=0.5, final_drop=0.5, plus_from=0.2, extra_growth=0.5 if grown else 0.05)
    context = _context(results=_results(gaps, losses))
    living = int(context.masks["sparse"].sum())
    dropped = round(0.5 * living)
    change = (round(0.5 * dropped) if grown else 0) - round(lost * dropped)
    assert int(spec.masks(context)["sparse"].sum()) == living + change
    early = _context(results=_results(gaps, losses), step=10)
    assert int(spec.masks(early)["sparse"].sum()) == living


def test_rises_counts_the_last_steps_alone() -> None:
    assert rises([9, 1, 2, 1, 2, 1], 4)
    assert not rises([0, 9, 8, 9, 8, 7], 4)
    assert not rises([1, 2, 3, 4], 4)


@given(
    every=st.integers(1, 60) | st.floats(0.01, 0.99),
    until=st.floats(0.01, 1.0),
    epochs=st.integers(1, 30),
    of_an_epoch=st.integers(1, 7),
    plus_from=st.floats(0.0, 1.0),
    window=st.integers(1, 8),
)
def test_flying_bird_refuses_lengths_by_the_last_exchange_that_comes_due(
    every: float, until: float, epochs: int, of_an_epoch: int, plus_from: float, window: int
) -> None:
    steps = epochs * of_an_epoch
    due = [step for step in range(1, steps) if FlyingBird(every=every, until=until).due(step, steps)]
    for plus in (False, True):
        spec = FlyingBird(every=every, until=until, plus=plus, plus_from=plus_from, window=window)
        never = not due or (plus and ((due[-1] - 1) // of_an_epoch <= window or due[-1] < plus_from * steps))
        if never:
            with pytest.raises(ValidationError, match="comes due in a training of"):
                spec.check_length(steps, epochs)
        else:
            spec.check_length(steps, epochs)


@pytest.mark.parametrize("grow", ["gradient", "random"])
@pytest.mark.parametrize("optimiser", [Sgd(), Adam()], ids=["sgd", "adam"])
def test_a_flying_bird_holds_its_budget_in_every_layer_and_moves(grow: Any, optimiser: Any) -> None:
    begin = pruned(State.of(network()))
    spec = _phase(FlyingBird(every=2, grow=grow), optimiser=optimiser, ema=0.5)
    found = _reports(spec, begin)
    for _, state, checkpoint in found:
        for name in begin.prunable():
            assert int(state.masks[name].sum()) == int(begin.masks[name].sum())
            dead = ~state.masks[name]
            moments = [t for slot, t in checkpoint["optimiser"].items() if slot.endswith(name) and t.dim() > 1]
            for tensor in (state.params[name], checkpoint["params"][name], checkpoint["average"][name], *moments):
                assert not bool(tensor[dead].any())
    assert not torch.equal(found[-1][1].masks["4.weight"], begin.masks["4.weight"])


MASK_UPDATES_TESTED = [
    Gradual(sparsity=0.85, every=2, end=0.6),
    FlyingBird(every=2),
    FlyingBird(every=2, grow="random", plus=True, window=1, plus_from=0.1),
]


@pytest.mark.parametrize("mask_update", MASK_UPDATES_TESTED, ids=["gradual", "gradient", "plus"])
@pytest.mark.parametrize("at", [1, 3])
def test_a_resumed_training_updates_masks_as_an_uninterrupted_one(mask_update: MaskUpdate, at: int) -> None:
    spec = _phase(mask_update, epochs=5, select=15, **EVERYTHING)
    begin = pruned(State.of(network()))
    whole = _reports(spec, begin)
    checkpoint = unpack(pack(whole[at - 1][2]))
    resumed = _reports(spec, begin, resume=(at, checkpoint))
    for (_, state, now), (_, other, then) in zip(resumed, whole[at:], strict=True):
        assert same(state, other)
        assert all(torch.equal(state.masks[name], mask) for name, mask in other.masks.items())
        assert all(torch.equal(tensor, then["params"][name]) for name, tensor in now["params"].items())


def test_the_epoch_that_is_handed_on_is_as_sparse_as_asked() -> None:
    spec = _phase(Gradual(sparsity=0.9, every=1, end=1.0), epochs=4, select=15)
    begin = State.of(network())
    assert _sparsity(_reports(spec, begin)[-1][1]) == pytest.approx(0.9, abs=1 / begin.size())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rewiring": {"kind": "flying_bird", "plus": True}}, "images that select holds back"),
        ({"rewiring": {"kind": "gradual", "begin": 0.8}}, r"begin 0.8 is not before end 0.75"),
        ({"rewiring": {"kind": "gradual", "pruning": {"structure": "filter"}}}, "structure unstructured"),
        ({"rewiring": "flying_bird", "weights": "noise"}, "plain weights only"),
    ],
)
def test_what_cannot_be_rewired_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Train.model_validate({"epochs": 3, "training": {}, **fields})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("mask_update", MASK_UPDATES_TESTED, ids=["gradual", "gradient", "plus"])
def test_updates_masks_on_a_gpu(mask_update: MaskUpdate) -> None:
    spec, begin = _phase(mask_update, select=15), pruned(State.of(network()))
    images = data()
    for split in {id(images.train): images.train}.values():
        object.__setattr__(split, "x", split.x.cuda())
        object.__setattr__(split, "y", split.y.cuda())
    *_, last = train(network(), begin.to("cuda"), spec, images, key=KEY, device="cuda")
    state = last.state()
    assert all(not bool(state.params[name][~state.masks[name]].any()) for name in state.prunable())
