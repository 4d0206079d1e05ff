"""Noise on weights: its statistics, its gradients, and the networks that draw it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.measure.factories import QUICK, SPLIT, linear, measured
from trainables.attacks.pgd import Pgd
from trainables.measure import evaluate
from trainables.measure.evaluate import Measurement
from trainables.metrics.noise import Noise as NoiseMetric
from trainables.models.noise import Noise, Noisy
from trainables.pruning import Pruning
from trainables.pruning.cut import prune
from trainables.reparametrisations import noise as spec
from trainables.reparametrisations.noise import NoisyWeights
from trainables.store.state import State, pack, unpack

FORMATS = [torch.contiguous_format, torch.channels_last]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weight(memory: torch.memory_format = torch.contiguous_format) -> Tensor:
    return torch.randn(6, 4, 3, 3, generator=draws(1)).contiguous(memory_format=memory)


def noise(alpha: Tensor, *, masked: bool = False, nonzero: bool = False) -> Noise:
    return Noise({"w": alpha}, masked, nonzero)


@pytest.mark.parametrize("memory", FORMATS)
def test_noise_has_the_deviation_it_says(memory: torch.memory_format) -> None:
    w = weight(memory)
    alpha = torch.tensor([0.5, -0.25, 0.0, 1.0, 2.0, 0.1]).reshape(-1, 1, 1, 1)
    drawn = torch.stack(
        [noise(alpha).on({"w": w}, {"w": torch.ones_like(w)}, generator)["w"] for generator in [draws(2)] * 2000]
    )
    added = drawn - w
    deviation = added.std(dim=0).mean(dim=(1, 2, 3))
    torch.testing.assert_close(deviation, alpha.flatten().abs() * w.std(), rtol=0.02, atol=1e-6)
    assert float(added.mean(dim=0).abs().max()) < 0.25
    # Entries are independent: within one draw, those of two positions go together as seldom as not.
    one, two = added[:, 0, 0, 0, 0], added[:, 0, 1, 0, 0]
    assert abs(float(torch.corrcoef(torch.stack([one, two]))[0, 1])) < 0.08


def test_sigma_is_the_sample_deviation_of_all_or_of_the_living() -> None:
    w = weight()
    w[:3] = 0
    torch.testing.assert_close(noise(w).sigma(w), w.std())
    torch.testing.assert_close(noise(w, nonzero=True).sigma(w), w[w != 0].std())
    assert noise(w, nonzero=True).sigma(torch.zeros(3)) == 0
    assert not noise(w).sigma(w.requires_grad_()).requires_grad


def test_pruned_weights_have_noise_only_where_it_is_not_masked() -> None:
    w = weight()
    mask = torch.rand(w.shape, generator=draws(4)) > 0.5
    alpha = torch.full((6, 1, 1, 1), 0.5)
    w = w * mask
    everywhere = noise(alpha).on({"w": w}, {"w": mask}, draws(5))["w"]
    masked = noise(alpha, masked=True).on({"w": w}, {"w": mask}, draws(5))["w"]
    assert int(torch.count_nonzero(masked[~mask])) == 0
    assert int(torch.count_nonzero(everywhere[~mask])) == int((~mask).sum())
    torch.testing.assert_close(masked, everywhere * mask)
    state = State({"w": w}, {}, {"w": mask})
    assert noise(alpha, masked=True).density(state) == pytest.approx(float(mask.float().mean()))
    assert noise(alpha).density(state) == 1
    assert noise(torch.zeros(6, 1, 1, 1)).density(state) == pytest.approx(float(mask.float().mean()))


@pytest.mark.parametrize("memory", FORMATS)
def test_gradient_of_a_coefficient_is_the_sum_over_its_channel(memory: torch.memory_format) -> None:
    """dL/dalpha_c = sum over the channel of dL/dW~ * sigma * eta, with eta drawn again by hand."""
    w = weight(memory).requires_grad_()
    alpha = torch.full((6, 1, 1, 1), 0.25, requires_grad=True)
    made = noise(alpha).on({"w": w}, {"w": torch.ones_like(w)}, draws(7))["w"]
    made.square().sum().backward()
    eta = torch.empty_like(w, requires_grad=False).normal_(generator=draws(7))
    outer = 2 * (w + 0.25 * w.std() * eta).detach()
    torch.testing.assert_close(alpha.grad, (outer * eta * w.std()).sum(dim=(1, 2, 3), keepdim=True).detach())
    torch.testing.assert_close(w.grad, outer)


@pytest.mark.parametrize(
    ("coefficients", "shapes"),
    [("layer", [(1,), (1,)]), ("channel", [(6, 1, 1, 1), (3, 1)]), ("element", [(6, 4, 3, 3), (3, 6)])],
)
def test_a_state_carries_the_noise(coefficients: str, shapes: list[tuple[int, ...]]) -> None:
    state = State.of(nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6, 3)))
    assert Noise.of(state) is None
    settings = spec.Noise.model_validate({"coefficients": coefficients, "mask": False, "sigma_over": "nonzero"})
    effective = NoisyWeights(settings, state)
    assert [tuple(t.shape) for t in effective.extras.values()] == shapes
    assert all(bool((t == 0.25).all()) for t in effective.extras.values())
    folded = effective.fold(state, {name: t * 2 for name, t in effective.extras.items()})
    kept = State(**{"buffers": {}, **unpack(pack(vars(folded)))})
    found = Noise.of(kept)
    assert found is not None
    assert (found.masked, found.nonzero) == (False, True)
    assert folded.weights_sha256() == kept.weights_sha256() != state.weights_sha256()
    # A later training resumes the coefficients; those of another shape are initialised again.
    again = NoisyWeights(settings, kept)
    assert all(bool((t == 0.5).all()) for t in again.extras.values())


def noisy(seed: int = 3) -> tuple[Noisy, State]:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).requires_grad_(False)
    state = State.of(net)
    found = Noise({name: torch.full((len(state.params[name]), 1), 0.3) for name in state.masks}, True, False)
    module = Noisy(net, found, state.masks)
    module.generator = draws(seed)
    return module, state


def test_a_noisy_network_draws_anew_in_every_pass_from_its_generator_alone() -> None:
    module, state = noisy()
    x = torch.rand(5, 1, 2, 2)
    first, second = module(x), module(x)
    assert not torch.equal(first, second)
    torch.manual_seed(99)
    module.generator = draws(3)
    assert torch.equal(module(x), first)
    assert all(torch.equal(module.net.state_dict()[name], t) for name, t in state.params.items())


def test_the_noise_of_a_network_is_off_unless_the_protocol_has_it_on() -> None:
    plain = measured(linear())
    names = State.of(linear()).prunable()

    def with_noise(strength: float, **fields: int) -> Measurement:
        extras = Noise({name: torch.full((1,), strength) for name in names}, True, False).tensors()
        return measured(linear(), QUICK.model_copy(update=fields), extras=extras)

    off = with_noise(5.0)
    assert (off.robust_correct == plain.robust_correct).all()
    assert off.flags == plain.flags
    assert off.weights_sha256 != plain.weights_sha256
    hardly = with_noise(1e-6, noise=True, eot=3, votes=3)
    assert (hardly.robust_correct == plain.robust_correct).all()
    strongly, again = (with_noise(5.0, noise=True, eot=3, votes=3) for _ in range(2))
    assert "nondeterministic" in strongly.flags
    assert strongly.clean_correct.mean() < plain.clean_correct.mean() - 0.1
    assert (strongly.robust_correct == again.robust_correct).all()


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("on", [True, False])
def test_noise_on_pruned_weights_is_flagged_where_it_is_on(masked: bool, on: bool) -> None:
    model = linear()
    state = prune(Pruning(), 0.3, State.of(model), draws())
    extras = Noise({name: torch.full((1,), 0.1) for name in state.prunable()}, masked, False).tensors()
    protocol = QUICK.model_copy(update={"noise": on, "eot": 2, "votes": 1, "examples": 50})
    found = evaluate.measure(model, replace(state, extras=extras), protocol, SPLIT, device="cpu")
    assert ("noise_on_pruned" in found.flags) == (on and not masked)


def test_votes_are_those_of_most_passes() -> None:
    """A network right in two passes of three is right by three votes, and wrong by one of its bad passes."""

    class Turning(nn.Module):
        passes = 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            return nn.functional.one_hot(torch.full((len(x),), int(self.passes % 3 == 0)), 2).float()

    y = torch.zeros(4, dtype=torch.long)
    assert evaluate.classified(Turning(), torch.zeros(4, 1), y, 3)[0].all()
    assert not evaluate.classified(Turning(), torch.zeros(4, 1), y + 1, 3)[0].any()


def test_the_metric_tells_what_an_attack_that_knows_of_the_noise_leaves() -> None:
    model = linear()
    extras = Noise({name: torch.full((1,), 0.6) for name in State.of(model).prunable()}, True, False).tensors()
    metric = NoiseMetric(attack=Pgd(steps=1, random_start=False), strong=Pgd(steps=5), eot=8, trials=3)
    found = measured(model, QUICK.model_copy(update={"metrics": (metric,)}), extras=extras).metrics
    assert found["noise_strength"] == pytest.approx(0.6)
    assert found["noise_density"] == pytest.approx(1.0)
    assert found["noise_eot"] <= found["noise_clean"]
    assert found["noise_off_strong"] <= found["noise_off_pgd"] <= found["noise_off_clean"]
    without = measured(model, QUICK.model_copy(update={"metrics": (metric,)})).metrics
    assert without["noise_clean"] == without["noise_off_clean"] == found["noise_off_clean"]
    assert without["noise_pgd"] == pytest.approx(without["noise_off_pgd"], abs=0.02)
    assert without["noise_strength"] == 0
