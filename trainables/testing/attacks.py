"""What every attack must do."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from trainables.attacks import ATTACKS, run
from trainables.attacks.base import Attack, LogitsFn
from trainables.core.errors import SpecError
from trainables.core.spec import plain
from trainables.testing.trainings import FORMATS


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 5)
    ).eval()


def network_of(x: Tensor, classes: int) -> LogitsFn:
    """Return an affine network for images such as x (N, ...)."""
    weight = torch.randn(x[0].numel(), classes, generator=torch.Generator().manual_seed(1))
    return lambda z: z.flatten(1) @ weight


def attacked(attack: Attack, batch: tuple[Tensor, Tensor], eps: float | Tensor, seed: int = 0) -> Tensor:
    return run(attack, network(), *batch, eps=eps, generator=torch.Generator().manual_seed(seed))


def lengths(delta: Tensor, norm: str) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord={"linf": torch.inf, "l2": 2}[norm], dim=1)
    return length


class AttackKit:
    """Tests of an attack; make it fast enough for tests, 30 steps or so."""

    @pytest.fixture
    def attack(self) -> Attack:
        """Return the attack to test."""
        raise NotImplementedError

    @pytest.fixture(params=FORMATS)
    def batch(self, request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        x = (torch.rand(16, 3, 8, 8, generator=generator) * 1.4 - 0.2).clamp(0, 1)
        return x.contiguous(memory_format=FORMATS[request.param]), torch.randint(5, (16,), generator=generator)

    def test_stays_in_ball_and_box(self, attack: Attack, batch: tuple[Tensor, Tensor]) -> None:
        x, _ = batch
        for eps in (8 / 255, 0.7, torch.linspace(0, 0.5, 16)):
            found = attacked(attack, batch, eps)
            assert bool((lengths(found - x, attack.norm) <= torch.as_tensor(eps) + 1e-6).all())
            assert float(found.min()) >= 0
            assert float(found.max()) <= 1

    def test_result_is_new_detached_and_laid_out_like_the_input(
        self, attack: Attack, batch: tuple[Tensor, Tensor]
    ) -> None:
        x, _ = batch
        before = x.clone()
        for eps in (0.0, 0.1):
            found = attacked(attack, batch, eps)
            assert torch.equal(x, before)
            assert found.data_ptr() != x.data_ptr()
            assert not found.requires_grad
            assert found.stride() == x.stride()
            assert found.dtype == x.dtype

    def test_eps_zero_returns_the_input(self, attack: Attack, batch: tuple[Tensor, Tensor]) -> None:
        assert torch.equal(attacked(attack, batch, 0.0), batch[0])

    def test_same_seed_same_result(self, attack: Attack, batch: tuple[Tensor, Tensor]) -> None:
        assert torch.equal(attacked(attack, batch, 0.1, seed=7), attacked(attack, batch, 0.1, seed=7))

    def test_global_generator_is_neither_read_nor_moved(self, attack: Attack, batch: tuple[Tensor, Tensor]) -> None:
        results = []
        for seed in (0, 1):
            net = network()
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            results.append(run(attack, net, *batch, eps=0.1, generator=torch.Generator().manual_seed(7)))
            assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(*results)

    def test_raises_the_loss_more_than_noise_does(self, attack: Attack, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        net = network()
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
        shaped = {"linf": noise.sign(), "l2": noise / lengths(noise, "l2").reshape(-1, 1, 1, 1)}[attack.norm]
        random = (x + 0.1 * shaped).clamp(0, 1)
        loss = [nn.functional.cross_entropy(net(z), y).item() for z in (x, random, attacked(attack, batch, 0.1))]
        assert loss[2] > max(loss[0], loss[1])

    def test_leaves_parameters_buffers_and_mode_alone(self, attack: Attack, batch: tuple[Tensor, Tensor]) -> None:
        net = network()
        before = {name: t.clone() for name, t in net.state_dict().items()}
        run(attack, net, *batch, eps=0.1, generator=torch.Generator().manual_seed(0))
        assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
        assert all(p.grad is None for p in net.parameters())
        assert not net.training

    def test_a_broken_model_gives_finite_inputs(self, attack: Attack, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        found = run(attack, lambda z: z.flatten(1)[:, :5] * torch.nan, x, y, eps=0.1, generator=torch.Generator())
        assert bool(found.isfinite().all())

    @pytest.mark.parametrize("detached", ["input", "output", "constant"])
    def test_a_network_without_gradients_is_no_error(
        self, attack: Attack, batch: tuple[Tensor, Tensor], detached: str
    ) -> None:
        x, y = batch
        net = network().requires_grad_(detached == "constant")
        ways: dict[str, LogitsFn] = {
            "input": lambda z: net(z.detach()),
            "output": lambda z: net(z).detach(),
            "constant": lambda z: net(torch.zeros_like(z)),
        }
        found = run(attack, ways[detached], x, y, eps=0.1, generator=torch.Generator().manual_seed(0))
        assert bool((lengths(found - x, attack.norm) <= 0.1 + 1e-6).all())

    @pytest.mark.parametrize("classes", [2, 3, 5])
    def test_few_classes_grey_images_and_a_single_image_are_no_error(self, attack: Attack, classes: int) -> None:
        """An attack that needs more classes may say so."""
        x = torch.rand(1, 1, 6, 5, generator=torch.Generator().manual_seed(0))
        net = network_of(x, classes)
        y = net(x).argmax(dim=1)
        found, refusal = x, ""
        try:
            found = run(attack, net, x, y, eps=0.05, generator=torch.Generator())
        except SpecError as error:
            refusal = str(error)
        assert not refusal or ("classes" in refusal and classes < 5)
        assert bool((lengths(found - x, attack.norm) <= 0.05 + 1e-6).all())

    @pytest.mark.parametrize("scale", [0.0, 1e30])
    def test_equal_and_huge_logits_are_no_error(self, attack: Attack, scale: float) -> None:
        x = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
        net = network_of(x, 5)
        y = net(x).mul(scale).argmax(dim=1)
        found = run(attack, lambda z: net(z) * scale, x, y, eps=0.05, generator=torch.Generator())
        assert bool((lengths(found - x, attack.norm) <= 0.05 + 1e-6).all())

    def test_survives_json(self, attack: Attack) -> None:
        assert ATTACKS.parse(json.loads(json.dumps(plain(attack)))) == attack

    @pytest.mark.parametrize("settings", [{}, {"steps": 40, "restarts": 3}, {"steps": 2, "step_size": 0.1}])
    def test_a_cheaper_form_is_of_the_same_kind_and_asks_no_more(
        self, attack: Attack, batch: tuple[Tensor, Tensor], settings: dict[str, object]
    ) -> None:
        known = {name: value for name, value in settings.items() if name in type(attack).model_fields}
        whole = attack.model_copy(update=known)
        asked = []
        for form in (whole, whole.cheaper(3), whole.cheaper(10**6)):
            calls: list[int] = []
            net = network()

            def counted(z: Tensor, net: nn.Module = net, calls: list[int] = calls) -> Tensor:
                calls.append(1)
                logits: Tensor = net(z)
                return logits

            run(form, counted, *batch, eps=0.1, generator=torch.Generator().manual_seed(0))
            asked.append(len(calls))
            assert (form.kind, form.norm) == (attack.kind, attack.norm)
            assert ATTACKS.parse(json.loads(json.dumps(plain(form)))) == form
        assert asked[1] <= asked[0]
        assert asked[2] <= asked[0]
