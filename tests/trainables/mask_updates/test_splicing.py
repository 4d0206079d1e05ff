"""Dynamic network surgery, against the method written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.engine.optimisation import Optimisation
from trainables.mask_updates.base import MaskUpdateContext
from trainables.mask_updates.splicing import Splicing
from trainables.method.phases import Prune, Train
from trainables.method.training import Training
from trainables.optimisers.sgd import Sgd
from trainables.recipes.guo2018 import Guo2018
from trainables.store.state import State

STEPS = 12


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 10), nn.Linear(10, 6))


def spliced(spec: Splicing, lr: float = 0.2) -> tuple[list[dict[str, Tensor]], dict[str, Tensor], dict[str, Tensor]]:
    """Descend 1/2 |W - A|^2, and return the effective weights after each step, with the first W and A."""
    model = net()
    state = State.of(model)
    begin = {name: state.params[name].clone() for name in state.prunable()}
    draws = torch.Generator().manual_seed(7)
    aims = {name: torch.randn(begin[name].shape, generator=draws) for name in begin}
    training = Training(optimiser=Sgd(momentum=0, weight_decay=0))
    optimisation = Optimisation(model, state.masks, training, trains_pruned=spec.trains_pruned)
    params, masks, found = dict(model.named_parameters()), state.masks, []
    for step in range(1, STEPS + 1):
        loss = torch.stack([(params[name] - aims[name]).square().sum() / 2 for name in aims]).sum()
        due = spec.due(step, STEPS)
        optimisation.set_rate(lr)
        optimisation.descend(loss, keep_gradients=due)
        if due:
            values, gradients = optimisation.values(), optimisation.gradients
            chances = torch.Generator().manual_seed(step)
            masks = spec.masks(MaskUpdateContext(step, STEPS, values, masks, gradients, 0.0, [], chances))
            optimisation.change_masks(masks)
        found.append({name: params[name].detach().clone() for name in aims})
    return found, begin, aims


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_weights_leave_and_return_as_written_out(scope: Any) -> None:
    """With `slowing` 0 there is an update after each of the first 9 of 12 steps."""
    spec = Splicing(sparsity=0.75, slowing=0, pruning={"scope": scope})  # type: ignore[arg-type]
    found, w, a = spliced(spec)
    masks = {name: torch.ones_like(value, dtype=torch.bool) for name, value in w.items()}
    returned = 0
    for step, effective in enumerate(found, start=1):
        w = {name: w[name] - 0.2 * (w[name] * masks[name] - a[name]) for name in w}
        if step <= 9:
            groups = [list(w)] if scope == "global" else [[name] for name in w]
            for group in groups:
                sizes = torch.cat([w[name].abs().flatten() for name in group])
                least = sizes.sort(descending=True).values[len(sizes) - round(0.75 * len(sizes)) - 1]
                for name in group:
                    size, old = w[name].abs(), masks[name]
                    stays = (old & (size > 0.9 * least)) | (~old & (size > 1.1 * least))
                    masks[name] = stays if step < 9 else size >= least
                    returned += int((masks[name] & ~old).sum())
        for name, value in w.items():
            torch.testing.assert_close(effective[name], value * masks[name])
            assert torch.equal(effective[name] != 0, masks[name])
    assert returned, "nothing was spliced"
    assert sum(int(mask.sum()) for mask in masks.values()) == 260 - round(0.75 * 260)


def test_updates_become_rarer_and_the_last_one_keeps_the_budget() -> None:
    rare, _, _ = spliced(Splicing(sparsity=0.75, slowing=1e6))
    masks = [{name: value != 0 for name, value in effective.items()} for effective in rare]
    changed = [
        step
        for step in range(2, STEPS + 1)
        if any(not torch.equal(masks[step - 1][name], masks[step - 2][name]) for name in masks[0])
    ]
    assert changed == [9]
    assert sum(int(mask.sum()) for mask in masks[-1].values()) == 65


def test_the_recipe_prunes_within_its_later_trainings() -> None:
    phases = Guo2018(sparsity=0.75, splice=True).phases()
    assert not any(isinstance(phase, Prune) for phase in phases)
    updates = [phase.rewiring for phase in phases if isinstance(phase, Train)]
    assert [update.kind for update in updates] == ["fixed", "splicing", "splicing"]
    assert [update.sparsity for update in updates if isinstance(update, Splicing)] == [0.5, 0.75]
