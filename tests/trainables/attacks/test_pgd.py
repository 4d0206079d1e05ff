"""PGD and FGSM against the exact adversarial of a linear model, and their promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.attacks.oracles import Linear, strongest_l2, strongest_linf, trained_on_digits
from trainables.attacks import run
from trainables.attacks.pgd import Fgsm, Pgd

FORMATS = [torch.contiguous_format, torch.channels_last]
SHAPE = (3, 6, 6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=FORMATS, ids=["contiguous", "channels_last"])
def batch(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    x = torch.rand(12, *SHAPE, generator=generator(1))
    # A third of the pixels on the border of the box, so that the box matters.
    x = ((x - 0.5) * 1.5 + 0.5).clamp(0, 1)
    y = torch.randint(2, (12,), generator=generator(2))
    return x.contiguous(memory_format=request.param), y


@pytest.mark.parametrize(
    "attack", [Pgd(steps=10), Pgd(steps=5, restarts=2), Fgsm(step_size=2.0), Fgsm(random_start=False)]
)
@pytest.mark.parametrize("eps", [0.03, 0.4])
def test_linf_attack_on_a_linear_model_is_exact(attack: Pgd | Fgsm, eps: float, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    model = Linear(SHAPE)
    found = run(attack, model, x, y, eps=eps, generator=generator())
    torch.testing.assert_close(found, strongest_linf(model, x, y, torch.full((12,), eps)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("eps", [0.1, 1.5, 4.0])
def test_l2_pgd_on_a_linear_model_is_exact(eps: float, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    model = Linear(SHAPE)
    found = run(Pgd(norm="l2", steps=60, step_size=2.0), model, x, y, eps=eps, generator=generator())
    best = strongest_l2(model, x, y, torch.full((12,), eps))
    assert bool(((best == 0) | (best == 1)).any()), "the box is to matter"
    torch.testing.assert_close(found, best, atol=2e-3, rtol=0)
    loss = nn.functional.cross_entropy(model(found), y, reduction="none")
    torch.testing.assert_close(
        loss, nn.functional.cross_entropy(model(best), y, reduction="none"), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_eps_per_image(norm: str, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    model = Linear(SHAPE)
    eps = torch.linspace(0, 0.3, 12)
    found = run(Pgd(norm=norm, steps=40, step_size=2.0), model, x, y, eps=eps, generator=generator())
    oracle = {"linf": strongest_linf, "l2": strongest_l2}[norm]
    torch.testing.assert_close(found, oracle(model, x, y, eps), atol=1e-3, rtol=0)
    assert torch.equal(found[0], x[0])


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))


def test_random_start_makes_l2_and_linf_runs_depend_on_the_generator_alone(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    model = small_net()
    for norm in ("linf", "l2"):
        attack = Pgd(norm=norm, steps=2)
        one, same, other = (run(attack, model, x, y, eps=0.2, generator=generator(s)) for s in (3, 3, 4))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_memory_format_does_not_change_the_result() -> None:
    x = torch.rand(6, *SHAPE, generator=generator(5))
    y = torch.randint(5, (6,), generator=generator(6))
    model = small_net()
    for norm in ("linf", "l2"):
        results = [
            run(Pgd(norm=norm, steps=3), model, x.contiguous(memory_format=f), y, eps=0.1, generator=generator())
            for f in FORMATS
        ]
        torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


def test_no_gradient_reaches_the_weights(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    model = small_net()
    with torch.no_grad():
        found = run(Pgd(steps=2), model, x, y, eps=0.1, generator=generator())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not found.requires_grad
    assert not x.requires_grad


def test_probabilities_of_one_equal_class_indices(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    model = small_net()
    certain = nn.functional.one_hot(y, 5).float()
    indexed, soft = (run(Pgd(steps=3), model, x, t, eps=0.1, generator=generator()) for t in (y, certain))
    assert torch.equal(indexed, soft)


def test_soft_labels_climb_the_kl_divergence(batch: tuple[Tensor, Tensor]) -> None:
    x, _ = batch
    model = small_net()
    clean = model(x).softmax(1).detach()
    found = run(Pgd(steps=10), model, x, clean, eps=0.1, generator=generator(), keep="last")

    def divergence(z: Tensor) -> Tensor:
        return nn.functional.kl_div(model(z).log_softmax(1), clean, reduction="none").sum(1)

    noise = (x + 0.1 * torch.randn(x.shape, generator=generator()).sign()).clamp(0, 1)
    assert bool((divergence(found) > divergence(noise)).all())


def test_restarts_keep_the_highest_loss_per_image(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    model = small_net()

    def losses(attack: Pgd, draws: torch.Generator) -> Tensor:
        found = run(attack, model, x, y, eps=0.3, generator=draws, keep="last")
        return nn.functional.cross_entropy(model(found), y, reduction="none")

    together = losses(Pgd(steps=1, restarts=4), generator(9))
    draws = generator(9)
    apart = torch.stack([losses(Pgd(steps=1), draws) for _ in range(4)])
    torch.testing.assert_close(together, apart.amax(0))
    assert len(set(apart.argmax(0).tolist())) > 1, "every restart won everywhere: nothing was tested"


class Bowl(nn.Module):
    """Wrong only in a thin shell around x = 0.5 + 0.05: an attack of long steps passes through and leaves it."""

    def forward(self, x: Tensor) -> Tensor:
        moved = (x - 0.5).flatten(1).mean(dim=1, keepdim=True).abs()
        margin = 0.02 - torch.relu(0.03 - (moved - 0.05).abs()) + 0.0 * x.flatten(1).sum(1, keepdim=True)
        return torch.cat([margin, -margin], dim=1)


def test_measuring_keeps_a_misclassified_input_that_the_last_iterate_lost() -> None:
    x, y = torch.full((4, 1, 4, 4), 0.5), torch.zeros(4, dtype=torch.long)
    x = x + torch.linspace(0.021, 0.049, 4).reshape(-1, 1, 1, 1)
    model = Bowl()
    attack = Pgd(steps=3, step_size=0.5, random_start=False)
    accuracy = {}
    for keep in ("last", "worst"):
        found = run(attack, model, x, y, eps=0.2, generator=generator(), keep=keep)
        accuracy[keep] = (model(found).argmax(1) == y).float().mean().item()
    assert accuracy["worst"] < accuracy["last"]


def test_a_given_start_is_where_the_attack_begins() -> None:
    x, y = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, dtype=torch.long)
    asked: list[Tensor] = []

    def logits_fn(z: Tensor) -> Tensor:
        asked.append(z.detach().clone())
        return Linear((1, 4, 4))(z)

    run(Pgd(steps=1), logits_fn, x, y, eps=0.1, generator=generator(), start=x + 0.01, keep="last")
    assert len(asked) == 1
    assert torch.equal(asked[0], x + 0.01)


def test_labels_say_what_was_run() -> None:
    assert [Pgd(steps=20).label, Pgd(steps=5, restarts=3).label, Fgsm().label] == ["PGD-20", "PGD-5x3", "FGSM"]


@pytest.mark.parametrize(("steps", "share"), [(1, 2.5), (5, 0.5), (10, 0.25), (100, 0.25)])
def test_default_step_is_a_quarter_of_eps_or_more(steps: int, share: float) -> None:
    """From the middle, with a constant gradient, PGD makes `steps` steps of the default size."""
    asked: list[Tensor] = []

    def logits_fn(z: Tensor) -> Tensor:
        asked.append(z.detach().clone())
        return Linear((1, 4, 4))(z)

    x, y = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, dtype=torch.long)
    found = run(Pgd(steps=steps, random_start=False), logits_fn, x, y, eps=0.1, generator=generator(), keep="last")
    first = asked[1] if steps > 1 else found
    torch.testing.assert_close((first - x).abs(), torch.full_like(x, 0.1 * min(share, 1)))
    assert len(asked) == steps


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_agrees_with_apgd_on_a_trained_network(norm: str) -> None:
    """Robust accuracy within half a point of an independent implementation at equal steps."""
    pytest.importorskip("pyautoattack")
    eps = {"linf": 0.1, "l2": 0.5}[norm]
    model, x, y = trained_on_digits(norm, eps)
    ours = run(Pgd(norm=norm, steps=50), model, x, y, eps=eps, generator=generator())
    theirs = apgd(model, x, y, norm=norm, eps=eps, steps=50)
    robust = [(model(z).argmax(1) == y).float().mean().item() for z in (ours, theirs)]
    assert 0.5 < robust[0] < 0.98, "a network on which the attacks can differ"
    assert abs(robust[0] - robust[1]) <= 0.005


def apgd(model: nn.Module, x: Tensor, y: Tensor, *, norm: str, eps: float, steps: int) -> Tensor:
    """Run pyautoattack's APGD on the cross-entropy, one restart."""
    from pyautoattack.autopgd_base import APGDAttack

    names = {"linf": "Linf", "l2": "L2"}
    attack = APGDAttack(model, n_iter=steps, norm=names[norm], eps=eps, seed=0, loss="ce", device="cpu")
    found: Tensor = attack.perturb(x, y)
    return found
