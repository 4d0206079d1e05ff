"""Which networks the checks of a measurement tell apart: planted ones that mask their gradients, and ordinary ones."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.ordinary import EPS, SETTINGS, networks
from benchmarks.planted import PLANTED
from trainables.attacks.pgd import Pgd
from trainables.data import tensors
from trainables.data.digits import Digits
from trainables.data.tensors import TrainingData
from trainables.measure.evaluate import Measurement, measure
from trainables.method.protocol import Protocol
from trainables.models.noise import PREFIX, Noise
from trainables.models.normalised import Normalised
from trainables.store.flags import FLAGS, questioned
from trainables.store.state import State

PROTOCOL = Protocol(attack=Pgd(steps=20), eps=EPS, examples=150)
INVALID = {
    "logits x 1e4": "no_gradient",
    "hard labels": "no_gradient",
    "detached input": "no_gradient",
    "noise in logits": "undeclared_noise",
    "noise of one seed": "depends_on_batch",
    "batch norm of the batch": "depends_on_batch",
    "other logits with requires_grad": "depends_on_gradients",
    "reversed gradient": "fails_at_large_radius",
    "useless gradient": "black_box_stronger",
    "rounded with a faint path": "misleading_gradient",
}
WARN = {"softmax": "softmax_output", "noise hashed from the input": "misleading_gradient", "constant": "zero_gradient"}


@cache
def digits() -> TrainingData:
    return tensors.load(Digits(validation=300))


@cache
def robust() -> nn.Module:
    return next(
        net for net in networks(SETTINGS["digits"], digits(), 1, ("ReLU",)) if "adversarial, seed 0, 0 %" in net.name
    ).model


def judged(model: nn.Module, protocol: Protocol = PROTOCOL, state: State | None = None) -> Measurement:
    torch.manual_seed(0)
    return measure(model, state or State.of(model), protocol, digits().validation, device="cpu")


def planted(name: str) -> Measurement:
    return judged(PLANTED[name](copy.deepcopy(robust())))


@pytest.mark.slow
@pytest.mark.parametrize("name", INVALID)
def test_a_network_that_masks_is_invalid(name: str) -> None:
    found = planted(name)
    assert INVALID[name] in found.flags
    assert found.status == "invalid"
    assert questioned(found.flags)


@pytest.mark.parametrize("name", WARN)
def test_a_network_whose_number_may_be_right_is_warned_of_and_teaches_nothing(name: str) -> None:
    found = planted(name)
    assert WARN[name] in found.flags
    assert questioned(found.flags)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_network_is_flagged(name: str) -> None:
    assert planted(name).status != "ok"


def test_what_is_behind_the_planted_networks_is_not_flagged() -> None:
    found = judged(robust())
    assert (found.flags, found.status) == ((), "ok")
    assert 0.5 < found.robust_correct.mean() < found.clean_correct.mean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ReLU, tiny", "tanh", "GELU", "batch norm, dropout", "convolutions, max pooling"])
def test_ordinary_networks_are_not_flagged(kind: str) -> None:
    for net in networks(SETTINGS["digits"], digits(), 1, (kind,)):
        found = judged(net.model, state=net.state)
        collapsed = found.clean_correct.mean() < 0.3
        assert collapsed or found.flags == (), net.name


def test_the_checks_change_no_verdict() -> None:
    for model in (robust(), PLANTED["reversed gradient"](copy.deepcopy(robust()))):
        bare = measure(model, State.of(model), PROTOCOL, digits().validation, device="cpu", checked=False)
        assert np.array_equal(bare.robust_correct, judged(model).robust_correct)


def test_an_attack_that_sees_a_large_scale_right_leaves_nothing_hidden() -> None:
    scaled = PLANTED["logits x 1e4"](copy.deepcopy(robust()))
    margin = PROTOCOL.model_copy(update={"attack": Pgd(steps=20, loss="margin")})
    found, plain = judged(scaled, margin), judged(robust(), margin)
    assert found.status == "warn"
    assert abs(found.robust_correct.mean() - plain.robust_correct.mean()) < 0.02


def test_declared_noise_is_measured_and_said() -> None:
    model = robust()
    state = State.of(model)
    alpha = {name: torch.full((), 0.05) for name in state.prunable()}
    noisy = State(state.params, state.buffers, state.masks, Noise(alpha, masked=True, nonzero=True).tensors())
    assert any(name.startswith(PREFIX) for name in noisy.extras)
    few = PROTOCOL.model_copy(update={"noise": True, "eot": 2, "votes": 3, "examples": 40})
    assert judged(model, few, noisy).flags == ("nondeterministic",)


def test_a_dead_region_is_the_truth_and_steps_are_not() -> None:
    """ReLUs that died leave one answer; half of the images are there."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = robust()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bright = (x.mean(dim=(1, 2, 3)) > 0.31).float()[:, None]
            logits: torch.Tensor = self.net(x)
            return bright * logits + (1 - bright) * torch.arange(10.0)

    assert "no_gradient" not in judged(Half()).flags


def test_every_flag_has_one_of_two_severities_and_a_meaning() -> None:
    assert all(flag.severity in ("warn", "invalid") and flag.meaning for flag in FLAGS.values())


def test_weights_outside_prunable_layers_are_counted() -> None:
    class Buffered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("matrix", torch.eye(64))
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = (x.flatten(1) @ self.matrix).view(-1, 8, 8)
            logits: torch.Tensor = self.head(self.attention(z, z, z, need_weights=False)[0].flatten(1))
            return logits

    torch.manual_seed(0)
    found = judged(Normalised(Buffered(), None), PROTOCOL.model_copy(update={"examples": 20}))
    assert found.weights_outside == 64 * 64
    assert "weights_outside" in found.flags
    assert judged(robust(), PROTOCOL.model_copy(update={"examples": 20})).weights_outside == 0
