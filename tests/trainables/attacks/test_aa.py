"""The ensemble in tiers: what its stages are, and that it breaks what the original breaks."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.attacks.oracles import Affine, curved, trained_on_digits
from trainables.attacks import hunt, run
from trainables.attacks.aa import Ensemble
from trainables.attacks.autoattack import AutoAttack
from trainables.attacks.counting import Counted


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_stages_are_those_of_the_original() -> None:
    stages = Ensemble(norm="l2").stages
    assert stages.label == "APGD-CE-100 + APGD-T-100 (9 targets) + FAB-T-100 + Square-5000"
    assert {attack.norm for attack in stages.attacks} == {"l2"}
    untiered = Ensemble(tiers=False).stages.attacks
    assert [getattr(attack, "reach", None) for attack in untiered] == [None] * 4


def test_what_ends_with_square_needs_no_gradients() -> None:
    found = [a.needs_no_gradients for a in (Ensemble(), AutoAttack(), AutoAttack(version="rand"))]
    assert found == [True, True, False]


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_is_exact_on_affine_networks_of_any_number_of_classes(norm: str, classes: int) -> None:
    net = Affine(classes)
    x, y = net.batch()
    exact = net.distance(x, y, norm)
    eps = float(exact.median())
    found = run(Ensemble(norm=norm, steps=20, queries=20), net, x, y, eps=eps, generator=generator())
    broken = net(found).argmax(dim=1) != y
    assert bool(broken[exact < 0.98 * eps].all())
    assert not bool(broken[exact > eps].any())


@pytest.mark.slow
def test_tiers_cost_half_where_nothing_more_is_in_reach_and_change_no_verdict() -> None:
    net, x, y = curved(30)
    found, cost = [], []
    for tiers in (True, False):
        counted = Counted(net)
        attack = Ensemble(steps=20, queries=500, tiers=tiers)
        everything = torch.ones(len(x), dtype=torch.bool)
        found.append(hunt(attack, counted, x, y, eps=0.01, generator=generator(), standing=everything))
        cost.append(counted.forward)
    broken = [net(z).argmax(dim=1) != y for z in found]
    assert 3 < int(broken[0].sum()) < 27
    assert torch.equal(*broken)
    assert cost[0] < 0.6 * cost[1]


def test_what_does_not_stand_is_left_alone() -> None:
    net, x, y = curved(10)
    standing = torch.arange(10) < 5
    counted = Counted(net)
    found = hunt(Ensemble(steps=5, queries=5), counted, x, y, eps=0.05, generator=generator(), standing=standing)
    assert torch.equal(found[5:], x[5:])
    assert not torch.equal(found[:5], x[:5])


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_breaks_what_the_original_breaks_on_a_trained_network(norm: str) -> None:
    pytest.importorskip("pyautoattack")
    eps = {"linf": 0.1, "l2": 0.5}[norm]
    model, x, y = trained_on_digits(norm, eps)
    x, y = x[:150], y[:150]
    correct = model(x).argmax(1) == y
    ours = run(Ensemble(norm=norm, steps=30, queries=200), model, x, y, eps=eps, generator=generator())
    theirs = run(AutoAttack(norm=norm, steps=30, queries=200), model, x, y, eps=eps, generator=generator())
    robust = [correct & (model(z).argmax(1) == y) for z in (ours, theirs)]
    assert 0.4 < float(robust[0].float().mean()) < 0.95, "a network on which the attacks can differ"
    assert float(robust[0].float().mean()) <= float(robust[1].float().mean()) + 0.005
    assert float((robust[0] != robust[1]).float().mean()) <= 0.01
