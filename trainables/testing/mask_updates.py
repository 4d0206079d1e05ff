"""What every mask update must do."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from trainables.core.errors import Diverged
from trainables.core.spec import plain
from trainables.engine.epoch import Epoch
from trainables.mask_updates import MASK_UPDATES
from trainables.mask_updates.base import EpochResult, MaskUpdate, MaskUpdateContext
from trainables.method.phases import Train
from trainables.optimisers.sgd import Sgd
from trainables.store.state import State, Tensors, pack, unpack
from trainables.testing.trainings import FORMATS, network, phase, pruned, same, started

STEPS = 15
"""Steps of the trainings: 5 epochs of 3."""


def context(step: int = 6, memory: torch.memory_format = torch.contiguous_format, seed: int = 4) -> MaskUpdateContext:
    """Return a training in the middle, half of whose weights are pruned; a bias is masked, as beside dead filters."""
    state = pruned(State.of(network()))
    draws = torch.Generator().manual_seed(seed)
    gradients = {name: torch.randn(state.params[name].shape, generator=draws) for name in state.prunable()}
    masks = {**state.masks, "4.bias": torch.tensor([True, False, True])}

    def laid_out(tensors: Tensors) -> Tensors:
        return {name: t.contiguous(memory_format=memory) if t.dim() == 4 else t for name, t in tensors.items()}

    results = [EpochResult(epoch, 0.5 + epoch / 20, 0.5, 2.0 - epoch / 10) for epoch in range(1, 6)]
    return MaskUpdateContext(
        step=step,
        steps=STEPS,
        params=laid_out(state.params),
        masks=laid_out(masks),
        gradients=laid_out(gradients),
        initial=state.mask_sparsity(),
        results=results,
        generator=torch.Generator().manual_seed(seed),
    )


def living(masks: Any) -> int:
    """Count the weights that are not pruned."""
    return sum(int(mask.sum()) for mask in masks.values() if mask.dim() > 1)


def training(update: MaskUpdate, **fields: Any) -> Train:
    """Describe a training of `STEPS` steps with a mask update; `fields` are those of `Training`."""
    more = {"select": 15, "batch": 15} if update.needs_held_back_images else {"batch": 20}
    spec = phase(**{"epochs": 5, "ema": 0.5, **more, **fields})
    return Train.model_validate({**plain(spec), "rewiring": update})


def reports(spec: Train, **options: Any) -> list[tuple[Epoch, State, dict[str, Tensors]]]:
    """Train a half pruned network and return each epoch with its state and checkpoint."""
    begin = pruned(State.of(network()))
    return [(epoch, epoch.state(), epoch.checkpoint()) for epoch in started(spec, begin, **options)]


class MaskUpdateKit:
    """Tests of a mask update that changes masks within 15 steps, unless it never does."""

    @pytest.fixture
    def mask_update(self) -> MaskUpdate:
        """Return the mask update to test."""
        raise NotImplementedError

    def promised(self, mask_update: MaskUpdate, given: MaskUpdateContext) -> int | None:
        """Return how many weights live after an update, None where it depends; by default as many as before."""
        return living(given.masks)

    @pytest.mark.parametrize("memory", FORMATS)
    @pytest.mark.parametrize("step", [1, 6, STEPS - 1])
    def test_masks_are_whole_and_as_many_weights_live_as_promised(
        self, mask_update: MaskUpdate, step: int, memory: str
    ) -> None:
        given = context(step, FORMATS[memory])
        found = mask_update.masks(given)
        assert found.keys() == given.masks.keys()
        for name, mask in found.items():
            assert mask.dtype == torch.bool, name
            assert mask.shape == given.masks[name].shape, name
        assert torch.equal(found["4.bias"], given.masks["4.bias"])
        promised = self.promised(mask_update, given)
        assert promised is None or living(found) == promised

    def test_memory_format_does_not_matter(self, mask_update: MaskUpdate) -> None:
        one, other = (mask_update.masks(context(memory=memory)) for memory in FORMATS.values())
        assert all(torch.equal(mask, other[name]) for name, mask in one.items())

    def test_repeats_exactly_and_draws_from_its_generator_alone(self, mask_update: MaskUpdate) -> None:
        given, again = context(), context()
        torch.manual_seed(123)
        before = torch.get_rng_state()
        first, second = mask_update.masks(given), mask_update.masks(again)
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(mask, second[name]) for name, mask in first.items())

    def test_leaves_weights_masks_and_gradients_alone(self, mask_update: MaskUpdate) -> None:
        given = context()
        groups = (given.params, given.masks, given.gradients)
        before = [{name: t.clone() for name, t in group.items()} for group in groups]
        mask_update.masks(given)
        for group, kept in zip(groups, before, strict=True):
            assert all(torch.equal(t, kept[name]) for name, t in group.items())

    def test_when_it_is_due_depends_on_the_step_alone(self, mask_update: MaskUpdate) -> None:
        due = [mask_update.due(step, STEPS) for step in range(1, STEPS + 1)]
        assert due == [mask_update.due(step, STEPS) for step in range(1, STEPS + 1)]
        assert mask_update.settled(STEPS, STEPS)

    def test_what_is_pruned_is_zero_everywhere_after_every_epoch(self, mask_update: MaskUpdate) -> None:
        for _, state, checkpoint in reports(training(mask_update)):
            masks = checkpoint.get("masks", state.masks)
            for name in state.prunable():
                assert not bool(state.params[name][~state.masks[name]].any()), name
                dead = ~masks[name]
                slots = [t for slot, t in checkpoint["optimiser"].items() if slot.endswith(f":{name}") and t.dim() > 1]
                slots = [] if mask_update.trains_pruned else slots
                for tensor in (checkpoint["params"][name], checkpoint["average"][name], *slots):
                    assert not bool(tensor[dead].any()), name

    @pytest.mark.parametrize("at", [1, 3])
    def test_a_resumed_training_equals_an_uninterrupted_one(self, mask_update: MaskUpdate, at: int) -> None:
        spec = training(mask_update)
        whole = reports(spec)
        resumed = reports(spec, resume=(at, unpack(pack(whole[at - 1][2]))))
        for (_, state, _), (_, wanted, _) in zip(resumed, whole[at:], strict=True):
            assert same(state, wanted)
            assert all(torch.equal(mask, wanted.masks[name]) for name, mask in state.masks.items())

    def test_the_epoch_that_is_chosen_is_settled(self, mask_update: MaskUpdate) -> None:
        spec = training(mask_update, select=15, batch=15)
        last, state, _ = reports(spec)[-1]
        per_epoch = STEPS // last.epochs
        chosen = int(state.history["selected_epoch"])
        assert mask_update.settled(chosen * per_epoch, STEPS)

    def test_a_training_that_diverges_says_so(self, mask_update: MaskUpdate) -> None:
        with pytest.raises(Diverged):
            reports(training(mask_update, optimiser=Sgd(lr=1e15), ema=0.0))

    def test_survives_json(self, mask_update: MaskUpdate) -> None:
        assert MASK_UPDATES.parse(json.loads(json.dumps(plain(mask_update)))) == mask_update
