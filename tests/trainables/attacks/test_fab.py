"""FAB on affine classifiers, whose distances are known, and against the code of its authors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.trainables.attacks.oracles import Affine, curved, trained_on_digits
from trainables.attacks import hunt, run
from trainables.attacks.fab import Fab
from trainables.attacks.geometry import length, to_plane
from trainables.attacks.minimal import distances


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targets", [9, None])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_finds_the_exact_distance_of_an_affine_classifier(norm: str, targets: int | None, classes: int) -> None:
    net = Affine(classes)
    x, y = net.batch()
    found = distances(Fab(norm=norm, steps=30, targets=targets), net, x, y)
    exact = net.distance(x, y, norm)
    assert bool((found >= exact - 1e-6).all())
    torch.testing.assert_close(found.float(), exact, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_in_a_ball_it_breaks_what_lies_within_and_stops_there(norm: str) -> None:
    net = Affine(4)
    x, y = net.batch()
    exact = net.distance(x, y, norm)
    eps = float(exact.median()) * 1.01
    sizes: list[int] = []

    def asked(z: Tensor) -> Tensor:
        sizes.append(len(z))
        return net(z)

    found = run(Fab(norm=norm, steps=40), asked, x, y, eps=eps, generator=generator())
    broken = net(found).argmax(dim=1) != y
    assert bool(broken[exact < 0.99 * eps].all())
    assert not bool(broken[exact > eps].any())
    assert sizes[0] == len(x)
    assert sizes[-2] == int((exact > eps).sum()), "what is broken is not attacked on"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_restarts_begin_at_random_within_half_the_radius(norm: str) -> None:
    net, x, y = curved()
    asked: list[Tensor] = []

    def recorded(z: Tensor) -> Tensor:
        asked.append(z.detach().clone())
        return net(z)

    run(Fab(norm=norm, steps=1, targets=None, restarts=3), recorded, x, y, eps=1e-4, generator=generator())
    assert len(asked) == 1 + 3 * 2 + 1
    assert torch.equal(asked[1], x)
    first, second = (length(asked[i] - x, norm) for i in (3, 5))
    assert not torch.equal(asked[3], asked[5])
    for radius in (first, second):
        assert 0 < float(radius.max()) <= 0.5e-4 + 1e-7


def test_a_class_out_of_reach_is_given_up_after_a_fifth_of_the_steps() -> None:
    net = Affine(3)
    x, y = net.batch()
    y = net(x).argmax(dim=1)
    nearest = float(net.distance(x, y, "linf").min())
    calls: list[int] = []

    def asked(z: Tensor) -> Tensor:
        calls.append(len(z))
        return net(z)

    standing = torch.ones(len(x), dtype=torch.bool)
    hunt(Fab(steps=50, reach=2.0), asked, x, y, eps=nearest / 3, generator=generator(), standing=standing)
    whole = len(calls)
    calls.clear()
    hunt(Fab(steps=50), asked, x, y, eps=nearest / 3, generator=generator(), standing=standing)
    assert whole - 2 == (len(calls) - 2) / 5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_step_to_a_plane_is_the_shortest_in_the_box(norm: str) -> None:
    z = torch.rand(40, 12, generator=generator(1)).double()
    z[:, :4] = z[:, :4].round()
    slope = torch.randn(40, 12, generator=generator(2)).double()
    slope[:, 5] = 0.0
    value = torch.randn(40, generator=generator(3)).double() * 4
    step = to_plane(norm, z, value, slope)
    assert bool(((z + step >= -1e-12) & (z + step <= 1 + 1e-12)).all())
    left = value + (slope * step).sum(dim=1)
    toward = slope * -value.sign()[:, None]
    most = torch.where(toward > 0, toward * (1 - z), -toward * z).sum(dim=1)
    reachable = most >= value.abs()
    assert 10 < int(reachable.sum()) < 40
    torch.testing.assert_close(left[reachable], torch.zeros(int(reachable.sum())).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(left[~reachable].abs(), (value.abs() - most)[~reachable])
    # By bisection on the length: the farthest that a step of that length comes.
    low, high = torch.zeros(40).double(), torch.full((40,), 20.0).double()
    for _ in range(80):
        middle = (low + high) / 2
        rate = toward.abs() if norm == "l2" else (toward != 0).double()
        room = torch.where(toward > 0, 1 - z, z)
        come = (toward.abs() * torch.minimum(rate * middle[:, None], room)).sum(dim=1)
        low, high = torch.where(come < value.abs(), middle, low), torch.where(come < value.abs(), high, middle)
    wanted = length(torch.minimum(rate * high[:, None], room), norm)
    torch.testing.assert_close(length(step, norm)[reachable], wanted[reachable])


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targets", [9, None])
def test_agrees_with_the_original_code_on_a_trained_network(norm: str, targets: int | None) -> None:
    fab_pt = pytest.importorskip("pyautoattack.fab_pt")
    eps = {"linf": 0.1, "l2": 0.5}[norm]
    model, x, y = trained_on_digits(norm, eps)
    x, y = x[:200], y[:200]
    correct = model(x).argmax(1) == y
    ours = run(Fab(norm=norm, steps=30, targets=targets, reach=2.0), model, x, y, eps=eps, generator=generator())
    original = fab_pt.FABAttack_PT(
        model, norm={"linf": "Linf", "l2": "L2"}[norm], n_iter=30, eps=eps, seed=0, targeted=bool(targets), device="cpu"
    )
    theirs = original.perturb(x, y)
    within = length(theirs - x, norm) <= eps
    robust = [correct & (model(ours).argmax(1) == y), correct & ~((model(theirs).argmax(1) != y) & within)]
    assert 0.4 < float(robust[0].float().mean()) < 0.95, "a network on which the attacks can differ"
    assert float(robust[0].float().mean()) <= float(robust[1].float().mean()) + 0.005
