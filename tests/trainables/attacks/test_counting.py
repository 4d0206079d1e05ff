"""Passes through a network, counted against what attacks are known to use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables import attacks
from trainables.attacks import ATTACKS
from trainables.attacks.base import Keep
from trainables.attacks.counting import Counted
from trainables.attacks.eot import Eot
from trainables.core.precision import Resolved
from trainables.models.graph.folding import FrozenAttackModel

KEEPS: tuple[Keep, Keep] = ("last", "worst")
X = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
PRECISION: Resolved = "fp32"


def network() -> tuple[nn.Module, Tensor]:
    """Return a network and labels that it predicts by a wide margin."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)).eval().requires_grad_(False)
    net[3].bias += torch.tensor([50.0, 0, 0, 0])
    return net, net(X).argmax(dim=1)


@pytest.mark.parametrize(
    ("attack", "forward", "backward"),
    [
        ({"kind": "pgd", "steps": 7}, 7, 7),
        ({"kind": "pgd", "steps": 7, "restarts": 2}, 16, 14),
        ({"kind": "noise", "draws": 5}, 5, 0),
        ({"kind": "square", "queries": 9}, 10, 0),
        ({"kind": "fab", "steps": 4}, 1 + 3 * 4 * 2, 3 * 4),
        ({"kind": "fab", "steps": 4, "targets": None}, 1 + 4 * 2, 3 * 4),
    ],
    ids=str,
)
def test_passes_are_counted_by_image(attack: dict[str, Any], forward: int, backward: int) -> None:
    net, y = network()
    counted = Counted(net)
    attacks.run(ATTACKS.parse(attack), counted, X, y, eps=0.01, generator=torch.Generator(), keep="last")
    assert (counted.forward, counted.backward) == (6 * forward, 6 * backward)


def test_a_gradient_of_the_networks_own_is_counted_and_used() -> None:
    net, y = network()
    plain, frozen = Counted(net), Counted(FrozenAttackModel(net, PRECISION, X))
    pgd = ATTACKS.parse({"kind": "pgd", "steps": 7})
    found = [attacks.run(pgd, c, X, y, eps=0.1, generator=torch.Generator().manual_seed(0)) for c in (plain, frozen)]
    assert (frozen.forward, frozen.backward) == (plain.forward, plain.backward)
    torch.testing.assert_close(found[0], found[1])
    assert not hasattr(plain, "input_gradient")


def test_what_a_gradient_of_the_networks_own_passes_is_recorded() -> None:
    """The last iterate is right, and one before it is not."""

    class Own:
        def __call__(self, x: Tensor) -> Tensor:
            brightness = x.flatten(1).mean(dim=1, keepdim=True)
            return torch.cat([brightness, 0.5 + 0.3 * (brightness > 0.55) * (brightness < 0.65)], dim=1)

        def input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
            slope(self(x))
            return torch.ones_like(x)

    net, x, y = Own(), torch.full((3, 1, 2, 2), 0.52), torch.zeros(3, dtype=torch.long)
    pgd = ATTACKS.parse({"kind": "pgd", "steps": 2, "step_size": 0.5, "random_start": False})
    last, worst = (attacks.run(pgd, net, x, y, eps=0.2, generator=torch.Generator(), keep=k) for k in KEEPS)
    assert (net(last).argmax(dim=1) == y).all()
    assert (net(worst).argmax(dim=1) != y).all()


def test_every_sample_of_a_random_network_counts() -> None:
    net, y = network()
    counted = Counted(Eot(net, 5))
    attacks.run(
        ATTACKS.parse({"kind": "pgd", "steps": 3}), counted, X, y, eps=0.1, generator=torch.Generator(), keep="last"
    )
    assert (counted.forward, counted.backward) == (6 * 3 * 5, 6 * 3 * 5)
