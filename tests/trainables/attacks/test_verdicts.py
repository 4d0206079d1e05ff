"""Logits that are not finite count as misclassified, whichever part of the code asks."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch
from torch import Tensor, nn

from trainables import attacks
from trainables.attacks.base import Attack
from trainables.attacks.fab import Fab
from trainables.attacks.fmn import Fmn
from trainables.attacks.minimal import CarliniWagner, DeepFool, Minimal, distances
from trainables.attacks.square import Square
from trainables.attacks.verdicts import correct, wrong
from trainables.metrics.attacked import Attacked
from trainables.metrics.base import MetricContext
from trainables.metrics.dynamics import Dynamics
from trainables.metrics.noise import Noise
from trainables.store.state import State
from trainables.worker import benchmark_entry

CLASSES = 3
BROKEN = [nan, inf, -inf]


class Broken(nn.Module):
    """A linear network that is right about class 0, and whose logit of it, or of another class, is not finite."""

    def __init__(self, value: float, everywhere: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(4, CLASSES)
        self.value, self.everywhere = value, everywhere
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.weight[1:] += torch.tensor([[0.1, -0.2, 0.3, 0.1], [0.2, 0.1, -0.1, 0.3]])
            self.linear.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        # Broken at the image itself, or at whatever else an attack tries.
        where = torch.ones(len(x), dtype=torch.bool) if self.everywhere else (x.flatten(1) != 0.5).any(dim=1)
        at = 1 if self.value == -inf else 0
        broken = torch.zeros_like(logits)
        broken[:, at] = self.value
        return torch.where(where[:, None], logits + broken, logits)


X, Y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize("value", BROKEN)
def test_logits_that_are_not_finite_are_wrong(value: float) -> None:
    logits = torch.tensor([[value, 0.0, -inf if value == -inf else 0.0], [3.0, 1.0, 2.0], [1.0, 3.0, 2.0]])
    assert wrong(logits, torch.zeros(3, dtype=torch.long)).tolist() == [True, False, True]
    assert correct(logits, torch.zeros(3, dtype=torch.long)).tolist() == [False, True, False]


MINIMAL: list[Minimal] = [DeepFool(steps=3), CarliniWagner(steps=3, searches=1), Fab(steps=3, norm="l2"), Fmn(steps=5)]


@pytest.mark.parametrize("attack", MINIMAL, ids=lambda attack: attack.kind)
@pytest.mark.parametrize("value", BROKEN)
def test_an_image_with_such_logits_is_at_no_distance_from_a_misclassified_one(attack: Minimal, value: float) -> None:
    assert distances(attack, Broken(value), X, Y).tolist() == [0.0] * 3


@pytest.mark.parametrize("attack", [*MINIMAL, Square(queries=20)], ids=lambda attack: attack.kind)
@pytest.mark.parametrize("value", BROKEN)
def test_attacks_find_inputs_at_which_logits_are_not_finite(attack: Attack, value: float) -> None:
    net = Broken(value, everywhere=False)
    found = attacks.run(attack, net, X, Y, eps=0.2, generator=torch.Generator().manual_seed(0), keep="last")
    assert correct(net(X), Y).all()
    assert wrong(net(found), Y).all()


def context(net: nn.Module) -> MetricContext:
    state = State.of(net)
    right = torch.ones(3, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    return MetricContext(
        net.eval().requires_grad_(False), state, X, Y, 0.2, "linf", right, right, lambda: state, generator,
        lambda: ({1: state}, {1: state, 2: state}),
    )  # fmt: skip


@pytest.mark.parametrize("value", BROKEN)
def test_metrics_count_them_as_the_measurement_does(value: float) -> None:
    assert Attacked().values(context(Broken(value)))["attacked_accuracy"] == 0.0
    found = Noise(eot=2, trials=2).values(context(Broken(value)))
    assert {name: found[name] for name in found if name not in ("noise_density", "noise_strength")} == dict.fromkeys(
        ("noise_clean", "noise_pgd", "noise_eot", "noise_mean", "noise_off_clean", "noise_off_pgd", "noise_off_strong"),
        0.0,
    )


@pytest.mark.parametrize("value", BROKEN)
def test_robust_accuracies_of_trainings_and_of_the_benchmark_do_so_too(value: float) -> None:
    net = Broken(value)
    _, accuracy = Dynamics()._outputs(context(net), State.of(net), torch.Generator().get_state())
    assert accuracy == 0.0
    assert not benchmark_entry._correct(net, X, Y).any()
