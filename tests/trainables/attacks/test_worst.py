"""Several attacks, of which the worst counts per image."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from trainables.attacks import ATTACKS, hunt, run
from trainables.attacks.apgd import ApgdTargeted
from trainables.attacks.minimal import DeepFool
from trainables.attacks.pgd import Fgsm, Pgd
from trainables.attacks.worst import Worst
from trainables.core.registry import opaque_kinds
from trainables.core.spec import plain


class Masked(nn.Module):
    """Half of the images by a network whose cross-entropy has no gradient, the others by one that rivals hide."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * (x.flatten(1) @ self.weight)


X = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(1))
NET = Masked()
Y = NET(X).argmax(1)
STANDING = torch.arange(60) % 5 > 0


def broken(found: Tensor) -> Tensor:
    return NET(found).argmax(1) != Y


def hunted(attack: Any, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return hunt(attack, NET, X, Y, eps=0.05, generator=generator, standing=STANDING)


def test_each_attack_gets_what_the_earlier_ones_left() -> None:
    first, second = Pgd(steps=5), ApgdTargeted(steps=10)
    alone = [broken(hunted(attack)) for attack in (first, second)]
    assert 0 < alone[0].sum() < alone[1].sum()
    both = Worst(attacks=(first, second))
    together = broken(hunted(both))
    assert bool((together | ~alone[0])[STANDING].all())
    assert together.sum() >= alone[1].sum()
    assert not bool(together[~STANDING].any())
    in_training = run(both, NET, X, Y, eps=0.05, generator=torch.Generator().manual_seed(0), keep="last")
    assert broken(in_training)[STANDING].sum() >= alone[1].sum()


def test_what_is_broken_costs_no_more_gradients() -> None:
    asked: list[int] = []

    def logits_fn(z: Tensor) -> Tensor:
        asked.append(len(z))
        return NET(z)

    attacks = (Pgd(steps=10, loss="margin"), Pgd(steps=10, loss="margin"))
    generator = torch.Generator().manual_seed(0)
    found = hunt(Worst(attacks=attacks), logits_fn, X, Y, eps=0.3, generator=generator, standing=STANDING)
    assert bool(broken(found)[STANDING].all())
    assert sum(asked) <= 3 * len(X)


def test_attacks_that_spare_nothing_get_the_images_that_stand() -> None:
    attack = Worst(norm="l2", attacks=(Fgsm(norm="l2"), DeepFool(steps=10)))
    found = hunt(attack, NET, X, Y, eps=0.3, generator=torch.Generator().manual_seed(0), standing=STANDING)
    assert torch.equal(found[~STANDING], X[~STANDING])
    assert broken(found)[STANDING].float().mean() > 0.3


def test_the_norm_is_that_of_the_whole() -> None:
    found = ATTACKS.parse({"kind": "worst", "norm": "l2", "attacks": ["pgd", {"kind": "apgd-t", "steps": 5}, "cw"]})
    assert isinstance(found, Worst)
    assert {attack.norm for attack in found.attacks} == {"l2"}
    for defaults in (True, False):
        assert ATTACKS.parse(json.loads(json.dumps(plain(found, defaults=defaults)))) == found


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Field required"),
        ({"attacks": []}, "at least 1 attack required"),
        ({"attacks": ["pdg"]}, r"unknown attack 'pdg'.*did you mean 'pgd'"),
        ({"attacks": ["pgd", "deepfool"]}, r"deepfool is in l2, but `worst` is in linf"),
        ({"attacks": [{"kind": "worst", "attacks": ["pgd"]}]}, "list the attacks of an inner `worst` in this one"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Worst.model_validate(fields)


def _built(kind: str, norm: str) -> Any:
    fields = {"attacks": ["pgd", "apgd-ce"]} if kind == "worst" else {}
    try:
        return ATTACKS[kind].model_validate({"norm": norm, **fields})
    except ValidationError:
        return None


@pytest.mark.parametrize("kind", [kind for kind in sorted(ATTACKS) if _built(kind, "l2") and _built(kind, "linf")])
def test_within_another_norm_an_attack_is_the_one_built_there(kind: str) -> None:
    assert _built(kind, "linf").within("l2") == _built(kind, "l2")
    assert _built(kind, "l2").within("l2") == _built(kind, "l2")


def test_of_a_kind_that_is_not_known_here_nothing_is_said() -> None:
    with opaque_kinds():
        found = Worst.model_validate({"attacks": ["pgd", {"kind": "my_attack", "force": 3}]})
    assert found.label is None
    assert plain(found)["attacks"][1] == {"kind": "my_attack", "norm": "linf", "force": 3}


def test_label_and_cheaper_form() -> None:
    attack = Worst(attacks=(Pgd(steps=10), ApgdTargeted(steps=5, targets=3)))
    assert attack.label == "PGD-10 + APGD-T-5 (3 targets)"
    assert attack.cheaper(5) == Worst(attacks=(Pgd(steps=5, step_size=0.25),))


def test_a_kind_that_changes_perturb_alone_is_attacked_with_that() -> None:
    class Still(Pgd):
        def perturb(self, logits_fn, x, y, *, eps, generator, start=None):  # type: ignore[no-untyped-def]
            return x.clone()

    attack = Still(loss="margin")
    assert not attack.sparing
    assert not broken(hunted(Worst(attacks=(attack,)))).any()
