"""APGD against linear networks, whose exact answer is known, and against an independent implementation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.attacks.oracles import Linear, strongest_l2, strongest_linf, trained_on_digits
from trainables.attacks import ATTACKS, hunt, run
from trainables.attacks.apgd import Apgd, ApgdCe, ApgdDlr, ApgdTargeted
from trainables.attacks.ascent import Adaptive, Ball, checkpoints
from trainables.attacks.base import Attack
from trainables.attacks.eot import Eot
from trainables.attacks.pgd import Pgd

SHAPE = (3, 6, 6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(classes: int = 2) -> tuple[Tensor, Tensor]:
    x = torch.rand(12, *SHAPE, generator=generator(1))
    # A third of the pixels on the border of the box, so that the box matters.
    return ((x - 0.5) * 1.5 + 0.5).clamp(0, 1), torch.randint(classes, (12,), generator=generator(2))


ALL = [ApgdCe(steps=20), ApgdDlr(steps=20), ApgdTargeted(steps=20), Pgd(steps=20, loss="margin"), Pgd(loss="dlr")]


@pytest.mark.parametrize("attack", ALL, ids=lambda a: a.label)
@pytest.mark.parametrize("eps", [0.03, 0.4])
def test_linf_attack_on_a_linear_model_is_exact(attack: Attack, eps: float) -> None:
    x, y = batch()
    model = Linear(SHAPE)
    found = run(attack, model, x, y, eps=eps, generator=generator(), keep="last")
    torch.testing.assert_close(found, strongest_linf(model, x, y, torch.full((12,), eps)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["apgd-ce", "apgd-dlr", "apgd-t"])
@pytest.mark.parametrize("eps", [0.1, 1.5])
def test_l2_attack_on_a_linear_model_reaches_the_highest_loss(kind: str, eps: float) -> None:
    x, y = batch()
    model = Linear(SHAPE)
    attack = ATTACKS.parse({"kind": kind, "norm": "l2", "steps": 60})
    found = run(attack, model, x, y, eps=eps, generator=generator(), keep="last")
    best = strongest_l2(model, x, y, torch.full((12,), eps))
    loss, highest = (nn.functional.cross_entropy(model(z), y, reduction="none") for z in (found, best))
    torch.testing.assert_close(loss, highest, atol=1e-3, rtol=1e-3)


def linear_classes(classes: int) -> tuple[nn.Module, Tensor]:
    weight = torch.randn(classes, 108, generator=generator(4)) * 0.1
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, classes, bias=False))
    model[1].weight.data = weight
    return model, weight


def exactly_robust(x: Tensor, y: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return which images (N,) no input within eps and the box makes a linear network misclassify."""
    robust = torch.ones(len(x), dtype=torch.bool)
    for target in range(len(weight)):
        direction = (weight[target] - weight[y]).reshape(x.shape)
        moved = (x + eps * direction.sign()).clamp(0, 1)
        robust &= ((moved * direction).flatten(1).sum(1) <= 0) | (y == target)
    return robust


@pytest.mark.parametrize("eps", [0.01, 0.03])
@pytest.mark.parametrize("classes", [3, 4, 7])
def test_targeting_every_class_decides_a_linear_network(eps: float, classes: int) -> None:
    model, weight = linear_classes(classes)
    x = torch.rand(300, *SHAPE, generator=generator(5))
    y = model(x).argmax(1)
    robust = exactly_robust(x, y, weight, eps)
    assert 0.05 < robust.float().mean() < 0.95
    standing = torch.ones(300, dtype=torch.bool)
    attack = ApgdTargeted(steps=20)
    for found in (
        hunt(attack, model, x, y, eps=eps, generator=generator(), standing=standing),
        run(attack, model, x, y, eps=eps, generator=generator()),
    ):
        assert torch.equal(model(found).argmax(1) == y, robust)


@pytest.mark.parametrize("attack", ALL, ids=lambda a: a.label)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_radius_for_each_image_bounds_it(attack: Attack, norm: str) -> None:
    attack = ATTACKS.parse({**attack.model_dump(), "norm": norm})
    model, _ = linear_classes(4)
    x, y = batch(4)
    eps = torch.linspace(0, 0.3, 12)
    standing = torch.arange(12) % 3 > 0
    for found in (
        run(attack, model, x, y, eps=eps, generator=generator()),
        hunt(attack, model, x, y, eps=eps, generator=generator(), standing=standing),
    ):
        delta = (found - x).flatten(1)
        length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
        assert bool((length <= eps + 1e-6).all())
        assert float(length.max()) > 0.1
    assert torch.equal(found[~standing], x[~standing])


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [(100, [22, 41, 57, 70, 80, 87, 93, 99]), (20, [5, 9, 12, 14, 16, 18, 19, 20]), (1, [1]), (5, [2, 3, 4, 5])],
)
def test_checkpoints_are_those_of_the_paper(steps: int, wanted: list[int]) -> None:
    assert sorted(checkpoints(steps)) == wanted


def test_a_stalled_ascent_halves_its_step_and_goes_back_to_its_best_input() -> None:
    """The loss is |x - 0.5| in the way: from 0.5 - 0.02 every step of twice the radius overshoots."""
    x = torch.full((2, 1, 1, 1), 0.5)
    climber = Adaptive(Ball("linf", x, 0.1), x + torch.tensor([0.0, 0.02]).reshape(2, 1, 1, 1), steps=20)
    seen, sizes = [], []
    for _ in range(6):
        seen.append(climber.z.flatten().clone())
        off = climber.z - 0.5
        climber.move(-off.sign() + 0.5 * (off == 0), -off.flatten().abs())
        sizes.append(climber.size.flatten().clone())
    assert all(torch.equal(size, torch.tensor([0.2, 0.2])) for size in sizes[:5])
    torch.testing.assert_close(sizes[5], torch.tensor([0.1, 0.1]))
    values = torch.stack([-(z - 0.5).abs() for z in seen])
    best = torch.stack(seen).gather(0, values.argmax(0)[None])[0]
    torch.testing.assert_close(climber.best.flatten(), best)
    torch.testing.assert_close(climber.before.flatten(), best)


def small_net(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, classes))


def bumpy_net() -> nn.Module:
    """Return a network whose loss has many local maxima within small radii."""
    torch.manual_seed(0)
    layers = [nn.Linear(108, 64), nn.Linear(64, 64), nn.Linear(64, 5)]
    for layer in layers[:2]:
        layer.weight.data *= 12
    return nn.Sequential(nn.Flatten(), layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


@pytest.mark.parametrize("attack", ALL, ids=lambda a: a.label)
def test_leaving_alone_what_is_broken_changes_no_verdict(attack: Attack) -> None:
    model = small_net()
    x = torch.rand(100, *SHAPE, generator=generator(3))
    y = model(x).argmax(1)
    asked: list[int] = []

    def logits_fn(z: Tensor) -> Tensor:
        asked.append(len(z))
        logits: Tensor = model(z)
        return logits

    standing = torch.arange(100) % 4 > 0
    spared = hunt(attack, logits_fn, x, y, eps=0.05, generator=generator(), standing=standing)
    images = sum(asked)
    asked.clear()
    whole = run(attack, logits_fn, x, y, eps=0.05, generator=generator())
    verdicts = [(model(z).argmax(1) == y) for z in (spared, whole)]
    assert torch.equal(verdicts[0][standing], verdicts[1][standing])
    assert bool(verdicts[0][~standing].all())
    assert 0.02 < verdicts[1].float().mean() < 0.8
    assert images < 0.75 * sum(asked)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "apgd-ce", "restarts": 2},
        {"kind": "apgd-dlr"},
        {"kind": "apgd-t", "targets": 3},
        {"kind": "pgd", "loss": "margin", "restarts": 2},
        {"kind": "worst", "attacks": [{"kind": "apgd-ce", "steps": 20}, {"kind": "apgd-t", "steps": 10}]},
        {"kind": "worst", "attacks": ["pgd", {"kind": "pgd", "loss": "dlr"}]},
    ],
    ids=lambda f: f["kind"],
)
def test_the_first_steps_break_nothing_that_all_of_them_do_not(norm: str, fields: dict[str, Any]) -> None:
    model = bumpy_net()
    x = torch.rand(128, *SHAPE, generator=generator(3))
    y = model(x).argmax(1)
    standing = torch.ones(128, dtype=torch.bool)
    steps = {} if fields["kind"] == "worst" else {"steps": 20}
    attack = ATTACKS.parse({"norm": norm, **steps, **fields})
    eps = {"linf": 0.009, "l2": 0.07}[norm]
    broken = [
        model(hunt(form, model, x, y, eps=eps, generator=generator(), standing=standing)).argmax(1) != y
        for form in (attack.cheaper(2), attack)
    ]
    assert not bool((broken[0] & ~broken[1]).any())
    assert 0 < broken[0].sum() < broken[1].sum()


def test_a_cheaper_form_makes_the_steps_of_the_whole() -> None:
    assert ApgdCe(steps=40, restarts=3).cheaper(5) == ApgdCe(steps=40, stop=5)
    assert ApgdCe(steps=40, stop=5).cheaper(9) == ApgdCe(steps=40, stop=5)
    assert ApgdTargeted().cheaper(200) == ApgdTargeted(stop=100, targets=1)


def test_labels_say_what_was_run() -> None:
    attacks: list[Apgd] = [ApgdCe(steps=20), ApgdDlr(restarts=2), ApgdTargeted(steps=9), ApgdCe(stop=5)]
    assert [a.label for a in attacks] == [
        "APGD-CE-20",
        "APGD-DLR-100x2",
        "APGD-T-9 (9 targets)",
        "APGD-CE-100 (first 5)",
    ]
    assert Pgd(loss="margin", steps=20).label == "PGD-margin-20"


def test_a_given_start_is_where_the_only_run_begins() -> None:
    x, y = batch()
    asked: list[Tensor] = []

    def logits_fn(z: Tensor) -> Tensor:
        asked.append(z.detach().clone())
        return Linear(SHAPE)(z)

    start = (x + 0.01).clamp(0, 1)
    run(ApgdCe(steps=3, restarts=4), logits_fn, x, y, eps=0.1, generator=generator(), start=start, keep="last")
    assert torch.equal(asked[0], start)
    assert len(asked) == 4


def test_restarts_keep_the_strongest_input() -> None:
    model, (x, y) = bumpy_net(), batch(5)

    def losses(attack: Attack, draws: torch.Generator) -> Tensor:
        found = run(attack, model, x, y, eps=0.02, generator=draws, keep="last")
        broken = model(found).argmax(1) != y
        return nn.functional.cross_entropy(model(found), y, reduction="none").detach() + 100 * broken

    together = losses(ApgdCe(steps=1, restarts=4), generator(9))
    draws = generator(9)
    apart = torch.stack([losses(ApgdCe(steps=1), draws) for _ in range(4)])
    torch.testing.assert_close(together, apart.amax(0))
    assert len(set(apart.argmax(0).tolist())) > 1, "every restart won everywhere: nothing was tested"


def test_probabilities_as_labels_are_attacked() -> None:
    model, (x, y) = small_net(), batch(5)
    soft = nn.functional.one_hot(y, 5).float() * 0.8 + 0.04
    for attack in ALL:
        found = run(attack, model, x, soft, eps=0.1, generator=generator(), keep="last")
        losses = [nn.functional.cross_entropy(model(z), y).item() for z in (x, found)]
        assert losses[1] > losses[0] + 0.02


class Shaky(nn.Module):
    """A linear network of 4 classes whose every pass adds noise to its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = linear_classes(4)[1]
        self.draws = generator(8)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(self.weight.shape, generator=self.draws)
        return x.flatten(1) @ (self.weight + 0.1 * noise).T


@pytest.mark.slow
@pytest.mark.parametrize("attack", ALL, ids=lambda a: a.label)
def test_a_random_network_is_attacked_through_the_mean_of_its_passes(attack: Attack) -> None:
    shaky = Shaky()
    x = torch.rand(100, *SHAPE, generator=generator(3))
    y = (x.flatten(1) @ shaky.weight.T).argmax(1)
    found = run(attack, Eot(shaky, 20), x, y, eps=0.02, generator=generator(), keep="last")
    correct = [float(((z.flatten(1) @ shaky.weight.T).argmax(1) == y).float().mean()) for z in (x, found)]
    exact = float(exactly_robust(x, y, shaky.weight, 0.02).float().mean())
    assert correct[0] == 1
    assert exact <= correct[1] <= exact + 0.25 < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["apgd-ce", "apgd-dlr", "apgd-t"])
def test_agrees_with_the_original_code_on_a_trained_network(norm: str, kind: str) -> None:
    autopgd = pytest.importorskip("pyautoattack.autopgd_base")
    eps = {"linf": 0.1, "l2": 0.5}[norm]
    model, x, y = trained_on_digits(norm, eps)
    if kind == "apgd-t":  # Nine times the work of the others.
        x, y = x[::3], y[::3]
    correct = model(x).argmax(1) == y
    attack = ATTACKS.parse({"kind": kind, "norm": norm, "steps": 100})
    ours = hunt(attack, model, x, y, eps=eps, generator=generator(), standing=correct)
    common = {"n_iter": 100, "norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps, "seed": 0, "device": "cpu"}
    if kind == "apgd-t":
        theirs = autopgd.APGDAttack_targeted(model, n_target_classes=9, **common).perturb(x, y)
    else:
        theirs = autopgd.APGDAttack(model, loss=kind.removeprefix("apgd-"), **common).perturb(x, y)
    robust = [correct & (model(z).argmax(1) == y) for z in (ours, theirs)]
    shares = [float(r.float().mean()) for r in robust]
    assert 0.4 < shares[0] < 0.98, "a network on which the attacks can differ"
    assert abs(shares[0] - shares[1]) <= 0.005
    assert float((robust[0] != robust[1]).float().mean()) <= 0.015
