"""FMN on affine classifiers, whose distances are known, and against an independent implementation."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from tests.trainables.attacks.oracles import Affine, curved, trained_on_digits
from trainables.attacks.fmn import Fmn
from trainables.attacks.geometry import length
from trainables.attacks.minimal import distances


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("classes", "exactly"), [(2, 1.0), (5, 0.9)])
def test_finds_the_exact_distance_of_an_affine_classifier(norm: str, classes: int, exactly: float) -> None:
    net = Affine(classes)
    x, y = net.batch()
    found = distances(Fmn(norm=norm), net, x, y)
    exact = net.distance(x, y, norm)
    assert bool((exact == 0).any())
    assert bool((found[exact == 0] == 0).all())
    assert bool((found >= exact - 1e-6).all())
    # It goes for the class of the largest logit, whose face need not be the nearest.
    close = torch.isclose(found.float(), exact, rtol=0.02, atol=2e-3)
    assert float(close.float().mean()) >= exactly


def test_one_run_gives_the_accuracy_at_every_radius() -> None:
    net = Affine(4)
    x, y = net.batch(200)
    found, exact = distances(Fmn(), net, x, y), net.distance(x, y, "linf")
    for eps in (0.0, 0.02, 0.05, 0.1):
        assert float((found > eps).float().mean()) == pytest.approx(float((exact > eps).float().mean()), abs=0.02)


def test_where_nothing_is_found_the_distance_is_infinite() -> None:
    net = Affine(3)
    net.weight.zero_()
    net.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 0, 1])
    assert torch.equal(Fmn(steps=5).nearest(net, x, y), x)
    assert distances(Fmn(steps=5), net, x, y).tolist() == [torch.inf, torch.inf, 0.0]


def test_the_nearest_input_of_all_step_sizes_counts() -> None:
    model, x, y = curved()
    one, ten, both = (
        distances(Fmn(steps=20, step_sizes=sizes), model, x, y) for sizes in ((1.0,), (10.0,), (1.0, 10.0))
    )
    assert torch.equal(both, torch.minimum(one, ten))
    assert bool((one < ten).any())
    assert bool((ten < one).any())


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_is_no_farther_than_adv_lib_on_a_trained_network(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # adv-lib imports visdom, for pictures alone.
    monkeypatch.setitem(sys.modules, "visdom", types.ModuleType("visdom"))
    attacks = pytest.importorskip("adv_lib.attacks")
    eps = {"linf": 0.1, "l2": 0.5}[norm]
    model, x, y = trained_on_digits(norm, eps)
    x, y = x[:300], y[:300]
    ours = distances(Fmn(norm=norm), model, x, y)
    inputs = attacks.fmn(model, x, y, norm={"linf": torch.inf, "l2": 2}[norm], steps=200)
    theirs = torch.where(model(inputs).argmax(1) == y, torch.inf, length(inputs - x, norm))
    assert float(ours.median()) <= 1.01 * float(theirs.median())
    for share in (0.5, 1.0, 1.5):
        assert float((ours > share * eps).float().mean()) <= float((theirs > share * eps).float().mean()) + 0.005
