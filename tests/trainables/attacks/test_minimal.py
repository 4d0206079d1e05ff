"""DeepFool and C&W against closed forms of affine classifiers and plain implementations of an image at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainables import attacks
from trainables.attacks.minimal import CarliniWagner, DeepFool, Minimal, jacobian
from trainables.attacks.pgd import RFgsm

CW = CarliniWagner(steps=250, searches=8, lr=0.01, constant=1.0)


def affine(classes: int = 4, pixels: int = 16, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)).requires_grad_(False)
    net[1].bias -= net[1](torch.full((1, pixels), 0.5))[0]
    return net


def curved(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)]
    net = nn.Sequential(*layers).requires_grad_(False)
    net[3].bias -= net(torch.full((1, 1, 4, 4), 0.5))[0]
    return net


def batch(net: nn.Module, n: int = 24) -> tuple[Tensor, Tensor]:
    """Draw images far from the box's faces, labelled as the net sees them but for the first three."""
    x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4
    y = net(x).argmax(dim=1)
    y[:3] = (y[:3] + 1) % 4
    return x, y


def exact(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the l2 distance to the nearest face of an affine classifier: the least lead over its gradient's length."""
    logits, weight = net(x), net[1].weight
    distance = torch.full((len(x), logits.shape[1]), torch.inf)
    for k in range(logits.shape[1]):
        lead = logits[torch.arange(len(y)), y] - logits[:, k]
        length = (weight[y] - weight[k]).norm(dim=1)
        distance[:, k] = torch.where(y == k, torch.inf, (lead / length).clamp_min(0))
    return distance.amin(dim=1)


def lengths(found: Tensor, x: Tensor) -> Tensor:
    return (found - x).flatten(1).norm(dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [DeepFool(), CW], ids=["deepfool", "cw"])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_finds_the_exact_distance_of_an_affine_classifier(attack: Minimal, memory: torch.memory_format) -> None:
    net = affine()
    x, y = batch(net)
    x = x.contiguous(memory_format=memory)
    found = attack.nearest(net, x, y)
    wanted = exact(net, x, y)
    assert bool((wanted[:3] == 0).any())
    assert torch.equal(found[wanted == 0], x[wanted == 0])
    assert bool((net(found).argmax(dim=1) != y).all())
    assert bool((lengths(found, x) >= wanted - 1e-6).all())
    torch.testing.assert_close(lengths(found, x), wanted, rtol=0.03, atol=4e-3)


def one_by_one(net: nn.Module, x: Tensor, label: int, steps: int = 50, overshoot: float = 0.02) -> Tensor:
    """DeepFool as its paper lists it, of one image and without the box."""
    moved = torch.zeros_like(x)
    for _ in range(steps):
        z = (x + (1 + overshoot) * moved).requires_grad_()
        logits = net(z[None])[0]
        values = logits.detach()
        if int(logits.argmax()) != label:
            break
        rows = [torch.autograd.grad(logits[k], z, retain_graph=True)[0] for k in range(len(logits))]
        best: tuple[float, Tensor] | None = None
        for k in range(len(logits)):
            if k != label:
                w, f = rows[k] - rows[label], float(values[k] - values[label])
                if best is None or abs(f) / float(w.norm()) < best[0]:
                    best = abs(f) / float(w.norm()), (abs(f) + 1e-4 * min(float(w.norm()), 1)) / w.norm() ** 2 * w
        assert best is not None
        moved = moved + best[1].detach()
    return (x + (1 + overshoot) * moved).detach()


def test_deepfool_is_that_of_its_paper_image_by_image() -> None:
    net = curved()
    x, y = batch(net)
    found = DeepFool().nearest(net, x, y)
    compared = 0
    for image, label, end in zip(x[3:], y[3:], found[3:], strict=True):
        wanted = one_by_one(net, image, int(label))
        if float(wanted.min()) >= 0 and float(wanted.max()) <= 1:
            torch.testing.assert_close(end, wanted, rtol=1e-3, atol=1e-4)
            compared += 1
    assert compared > 15


@pytest.mark.slow
def test_carlini_wagner_is_no_farther_than_a_brute_search_of_directions() -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3)).requires_grad_(False)
    x = torch.rand(10, 1, 1, 2, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    y = net(x).argmax(dim=1)
    found = CW.nearest(net, x, y)
    angles = torch.linspace(0, 2 * torch.pi, 721)[:-1]
    radii = torch.linspace(0.001, 1.0, 1000)
    for image, label, end in zip(x, y, found, strict=True):
        ring = torch.stack([angles.cos(), angles.sin()], dim=1)
        grid = image.flatten() + radii[:, None, None] * ring
        inside = ((grid >= 0) & (grid <= 1)).all(dim=2)
        wrong = (net(grid.reshape(-1, 1, 1, 2)).argmax(dim=1) != label).view(len(radii), -1) & inside
        reached = wrong.any(dim=1)
        if bool(reached.any()):
            nearest = float(radii[reached][0])
            assert float((end - image).norm()) == pytest.approx(nearest, rel=0.03, abs=3e-3)


def test_where_nothing_is_found_the_image_comes_back() -> None:
    x = torch.full((2, 1, 4, 4), 0.5)
    constant = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False)
    constant[1].weight.zero_()
    constant[1].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    y = torch.zeros(2, dtype=torch.long)
    for attack in (DeepFool(steps=3), CarliniWagner(steps=5, searches=2)):
        assert torch.equal(attack.nearest(constant, x, y), x)


@pytest.mark.slow
def test_in_a_ball_they_break_what_lies_within_it() -> None:
    net = affine()
    x, y = batch(net)
    for attack in (DeepFool(), CW):
        found = attacks.run(attack, net, x, y, eps=0.2, generator=torch.Generator())
        broken = net(found).argmax(dim=1) != y
        wanted = exact(net, x, y)
        assert bool(broken[wanted < 0.19].all())
        assert not bool(broken[wanted > 0.2].any())


def test_jacobian_is_autograd_s() -> None:
    net = curved()
    x, y = batch(net, 5)
    logits, (differences, slopes) = jacobian(net, x, y, 3)
    whole = torch.autograd.functional.jacobian(net, x)
    assert isinstance(whole, Tensor)
    for i in range(5):
        order = [k for k in logits[i].argsort(descending=True).tolist() if k != y[i]]
        for place, k in enumerate(order):
            torch.testing.assert_close(differences[i, place], logits[i, k] - logits[i, y[i]])
            torch.testing.assert_close(slopes[i, place], (whole[i, k, i] - whole[i, y[i], i]).flatten())


def test_rfgsm_steps_at_random_and_then_up_the_gradient() -> None:
    net = affine(classes=2)
    x, y = batch(net, 8)
    y = y % 2
    generator = torch.Generator().manual_seed(0)
    found = attacks.run(RFgsm(share=0.25), net, x, y, eps=0.1, generator=generator, keep="last")
    noise = torch.empty_like(x).normal_(generator=torch.Generator().manual_seed(0)).sign()
    gradient = (net[1].weight[1 - y] - net[1].weight[y]).view_as(x).sign()
    torch.testing.assert_close(found, x + 0.025 * noise + 0.075 * gradient)
