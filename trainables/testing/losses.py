"""What every training loss must do."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from trainables.attacks.pgd import Pgd
from trainables.core.spec import plain
from trainables.losses import LOSSES
from trainables.losses.base import Adversary, Loss, Terms
from trainables.store.state import State, pack, unpack
from trainables.testing.trainings import FORMATS, data, end, network, phase, pruned, same, started

N = 12


@dataclass
class Setting:
    """A network in train mode, a frozen copy of it to attack, images, and the batches that either was given."""

    net: nn.Module = field(default_factory=network)
    seen: list[Tensor] = field(default_factory=list)
    attacked: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.copy = copy.deepcopy(self.net).eval()
        self.x, self.y = data().train.pixels()[:N], data().train.y[:N]

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        logits: Tensor = self.net(x)
        return logits

    def logits_fn(self, x: Tensor) -> Tensor:
        self.attacked.append(x.detach())
        logits: Tensor = self.copy(x)
        return logits

    def terms(self, loss: Loss, eps: float = 0.1, smoothing: float = 0.0, part: slice = slice(None)) -> Terms:
        """Return the loss of some of the images, attacked with the same draws each time."""
        adversary = Adversary(Pgd(steps=3), self.logits_fn, eps, torch.Generator().manual_seed(2))
        return loss.terms(self.forward, adversary, self.x[part], self.y[part], smoothing)


class LossKit:
    """Tests of a training loss."""

    @pytest.fixture
    def loss(self) -> Loss:
        """Return the loss to test."""
        raise NotImplementedError

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_is_a_finite_scalar_with_logits_of_every_image(self, loss: Loss, smoothing: float) -> None:
        found = Setting().terms(loss, smoothing=smoothing)
        assert found.loss.shape == ()
        assert bool(found.loss.isfinite())
        assert found.logits.shape == (N, 3)
        assert found.logits.dtype == torch.float32

    def test_its_gradient_reaches_every_weight_and_none_through_the_attack(self, loss: Loss) -> None:
        setting = Setting()
        setting.terms(loss).loss.backward()  # type: ignore[no-untyped-call]
        for name, p in setting.net.named_parameters():
            assert p.grad is not None, name
            assert bool(p.grad.isfinite().all()), name
            assert float(p.grad.abs().sum()) > 0, name
        assert all(p.grad is None for p in setting.copy.parameters())

    def test_its_logits_are_those_of_the_training_forward(self, loss: Loss) -> None:
        setting = Setting()
        found = setting.terms(loss)
        again = copy.deepcopy(setting.net)
        assert any(torch.allclose(found.logits, again(x).float(), atol=1e-5) for x in setting.seen)

    def test_is_the_mean_over_the_images(self, loss: Loss) -> None:
        """Without an attack and batch statistics, which tie images together, halves average to the whole."""
        setting = Setting()
        setting.net.eval()
        whole = setting.terms(loss, eps=0.0).loss
        halves = [setting.terms(loss, eps=0.0, part=part).loss for part in (slice(N // 2), slice(N // 2, N))]
        torch.testing.assert_close(torch.stack(halves).mean(), whole)

    def test_attacks_if_it_says_so_and_only_then(self, loss: Loss) -> None:
        setting = Setting()
        setting.terms(loss)
        assert bool(setting.attacked) == loss.attacks
        moved = any(x.shape != setting.x.shape or not torch.equal(x, setting.x) for x in setting.seen)
        assert moved == loss.attacks

    def test_the_attack_moves_no_statistics(self, loss: Loss) -> None:
        """Batch norm's statistics are those of the images that went through the training forward, and of no others."""
        setting = Setting()
        fresh = copy.deepcopy(setting.net)
        frozen = {name: b.clone() for name, b in setting.copy.named_buffers()}
        setting.terms(loss)
        with torch.no_grad():
            for x in setting.seen:
                fresh(x)
        assert all(torch.equal(b, fresh.get_buffer(name)) for name, b in setting.net.named_buffers())
        assert all(torch.equal(b, frozen[name]) for name, b in setting.copy.named_buffers())
        assert all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in setting.seen)

    def test_draws_from_the_given_generator_alone(self, loss: Loss) -> None:
        first = Setting().terms(loss)
        second = Setting()
        torch.manual_seed(123)
        before = torch.get_rng_state()
        assert torch.equal(second.terms(loss).loss, first.loss)
        assert torch.equal(torch.get_rng_state(), before)

    def test_memory_format_does_not_matter(self, loss: Loss) -> None:
        found = []
        for memory in FORMATS.values():
            setting = Setting(network().to(memory_format=memory))
            setting.x = setting.x.contiguous(memory_format=memory)
            found.append(setting.terms(loss, eps=0.0).loss)
        torch.testing.assert_close(*found)

    def test_a_training_with_it_resumes_to_the_same_bits(self, loss: Loss) -> None:
        spec = phase(epochs=3, loss=loss)
        begin = pruned(State.of(network()))
        whole = started(spec, begin)
        checkpoint = unpack(pack(next(whole).checkpoint()))
        wanted, resumed = end(whole), end(started(spec, begin, resume=(1, checkpoint)))
        assert same(wanted.state(), resumed.state())
        assert wanted.loss == resumed.loss

    def test_survives_json(self, loss: Loss) -> None:
        assert LOSSES.parse(json.loads(json.dumps(plain(loss)))) == loss
