from __future__ import annotations

import pytest
import torch

from trainables import models
from trainables.method.phases import Measure, Prune, Rewind, Train
from trainables.method.training import Training
from trainables.models.lenet import LeNet300
from trainables.optimisers.adam import Adam
from trainables.pruning.cut import prune
from trainables.recipes.cosentino2019 import PUBLISHED, Cosentino2019
from trainables.store.state import State

REMAINING = [80.04, 64.06, 51.28, 41.05, 32.86, 26.31, 21.07, 16.87, 13.51, 10.82]
REMAINING += [8.67, 6.95, 5.57, 4.46, 3.58, 2.87, 2.30, 1.84, 1.48, 1.19]
"""Percent of the 266,200 weights after each round, from a simulation of the paper's code."""


def paper_net() -> State:
    spec = LeNet300(bias=False, init="glorot_uniform", normalise=False)
    return State.of(models.build(spec, shape=(1, 28, 28), classes=10, mean=[0.0], std=[1.0], seed=0))


def test_the_paper_s_net_has_its_weights_and_their_limits() -> None:
    state = paper_net()
    assert sum(p.numel() for p in state.params.values()) == state.size() == 266_200
    for weight, limit in zip(state.params.values(), (0.0744, 0.1225, 0.2335), strict=True):
        assert 0.99 * limit < float(weight.abs().max()) <= limit + 1e-3
        assert float(weight.std()) == pytest.approx(limit / 3**0.5, rel=0.05)


def test_rounds_by_rates_leave_what_the_paper_s_code_leaves() -> None:
    state = paper_net()
    recipe = Cosentino2019(sparsity=0.9881)
    rounds = [phase for phase in recipe.phases() if isinstance(phase, Prune)]
    assert len(rounds) == 20
    for phase, wanted in zip(rounds, REMAINING, strict=True):
        before = {name: int(mask.sum()) for name, mask in state.masks.items()}
        state = prune(phase.pruning, phase.sparsity, state, torch.Generator(), rates=phase.rates)
        assert 100 * state.nonzero() / state.size() == pytest.approx(wanted, abs=0.006)
        if phase is rounds[-1]:
            break
        for rate, (name, living) in zip((0.2, 0.2, 0.1), before.items(), strict=True):
            weights = state.params[name][state.masks[name]]
            assert len(weights) == living - round(rate * living) - 1
            assert weights.abs().min() >= state.params[name][~state.masks[name]].abs().max()


def test_the_last_round_is_cut_to_the_sparsity_with_the_layers_in_proportion() -> None:
    natural, asked = paper_net(), paper_net()
    by_rates = [phase for phase in Cosentino2019(sparsity=0.8).phases() if isinstance(phase, Prune)][:3]
    for phase in by_rates:
        natural = prune(phase.pruning, phase.sparsity, natural, torch.Generator(), rates=phase.rates)
    recipe = Cosentino2019(sparsity=1 - natural.nonzero() / natural.size())
    rounds = [phase for phase in recipe.phases() if isinstance(phase, Prune)]
    assert len(rounds) == 3
    for phase in rounds:
        asked = prune(phase.pruning, phase.sparsity, asked, torch.Generator(), rates=phase.rates)
    assert all(torch.equal(mask, natural.masks[name]) for name, mask in asked.masks.items())


@pytest.mark.parametrize("rewind", ["init", "dense_trained", "random", "none"])
def test_every_round_rewinds_as_the_strategy_says_and_trains_in_full(rewind: str) -> None:
    recipe = Cosentino2019.model_validate({"sparsity": 0.4872, "rewind": rewind, "epochs": 4})
    phases = recipe.phases()
    trainings = [phase for phase in phases if isinstance(phase, Train)]
    assert len(trainings) == len([phase for phase in phases if isinstance(phase, Measure)]) == 4
    assert all((phase.start, phase.epochs) == (0, 4) for phase in trainings)
    assert [phase.to for phase in phases if isinstance(phase, Rewind)] == ([] if rewind == "none" else [rewind] * 3)


def test_rounds_may_be_pruned_without_training_between() -> None:
    phases = Cosentino2019(sparsity=0.8313, retrain=(3,)).phases()
    again = "rewind train measure"
    wanted = f"train measure {'prune ' * 3}{again} {'prune ' * 5}{again}"
    assert " ".join(phase.kind for phase in phases) == wanted


def test_what_train_does_not_name_is_as_published() -> None:
    recipe = Cosentino2019.model_validate({"train": {"eps": 0.1, "attack": "fgsm"}})
    assert recipe.train == Training.model_validate({**PUBLISHED, "eps": 0.1, "attack": "fgsm"})
    assert recipe.train.optimiser == Adam(lr=1.2e-3)
    given = Training(batch=7)
    assert Cosentino2019(train=given).train == given
