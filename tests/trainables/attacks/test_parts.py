"""Parts of a batch that are attacked together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.attacks import ATTACKS, hunt
from trainables.attacks.apgd import ApgdCe
from trainables.attacks.base import Norm
from trainables.attacks.parts import Parts
from trainables.attacks.pgd import Pgd
from trainables.attacks.worst import Worst

SIZES = (20, 20, 9)
EPS: dict[Norm, float] = {"linf": 0.04, "l2": 0.3}
TAKING: list[Any] = [
    {"kind": "pgd", "loss": "margin", "steps": 2, "step_size": 0.3, "restarts": 2},
    {"kind": "apgd-ce", "steps": 4},
    {"kind": "apgd-t", "steps": 4, "targets": 2},
    {"kind": "worst", "attacks": [{"kind": "apgd-ce", "steps": 3}, {"kind": "apgd-t", "steps": 5}]},
]


class Changed(ApgdCe):
    def hunt(self, *args: Any, **named: Any) -> Tensor:
        return super().hunt(*args, **named)


def network() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network with some images that it classifies as the labels say; a few of them stand in no attack."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 5)).eval().requires_grad_(False)
    x = torch.rand(sum(SIZES), 1, 6, 6)
    return net, x, net(x).argmax(dim=1)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(len(SIZES))]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", TAKING, ids=lambda attack: attack["kind"])
def test_each_part_finds_what_it_finds_alone(attack: Any, norm: Norm) -> None:
    net, x, y = network()
    standing = torch.arange(len(x)) % 7 > 0
    found = ATTACKS.parse({**attack, "norm": norm})
    assert found.takes_parts
    given: dict[str, Any] = {"eps": EPS[norm]}
    together = hunt(found, net, x, y, **given, generator=Parts(SIZES, generators()), standing=standing)
    alone = torch.cat(
        [
            hunt(found, net, *parts, **given, generator=generator, standing=stand)
            for *parts, stand, generator in zip(*(t.split(SIZES) for t in (x, y, standing)), generators(), strict=True)
        ]
    )
    broken, broken_alone = (net(inputs).argmax(dim=1) != y for inputs in (together, alone))
    assert torch.equal(broken, broken_alone)
    assert 0 < broken.sum() < standing.sum()
    # Which misclassified input is kept depends on when an image is dropped.
    torch.testing.assert_close(together[~broken], alone[~broken], rtol=0, atol=1e-5)
    if attack["kind"] == "pgd":  # The first step of APGD leads to a face of the ball from anywhere in it.
        others = hunt(found, net, x, y, **given, generator=torch.Generator().manual_seed(0), standing=standing)
        assert not torch.allclose(others[~broken], alone[~broken], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "attack", [Changed(), Worst(attacks=(Pgd(), Changed())), ATTACKS.parse("fgsm"), ATTACKS.parse("square")], ids=str
)
def test_other_code_gets_no_parts(attack: Any) -> None:
    assert not attack.takes_parts


def test_an_attack_that_spares_nothing_keeps_others_from_parts() -> None:
    assert not Worst(attacks=(ApgdCe(), ATTACKS.parse("fgsm"))).takes_parts
