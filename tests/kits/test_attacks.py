"""Every registered attack, by its kit, in each norm that it knows."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.testing.attacks import AttackKit

SMALL: dict[str, dict[str, Any]] = {
    "cw": {"steps": 30, "searches": 3, "constant": 1.0, "lr": 0.05},
    "deepfool": {"steps": 10},
    "square": {"queries": 30},
    "fab": {"steps": 5, "targets": 2},
    "fmn": {"steps": 20},
    "noise": {"draws": 30},
    "autoattack": {"steps": 5, "queries": 5},
    "aa": {"steps": 5, "queries": 10, "targets": 2},
    "apgd-ce": {"steps": 10},
    "apgd-dlr": {"steps": 10},
    "apgd-t": {"steps": 10, "targets": 3},
    "worst": {"attacks": [{"kind": "pgd", "steps": 5}, {"kind": "apgd-t", "steps": 5, "targets": 3}]},
}
"""What makes an attack fast enough for tests."""
SLOW = {"aa", "autoattack", "worst"}
"""Attacks made of several."""


def norms(kind: str) -> list[str]:
    """Return the norms that a kind of attack knows."""
    annotation = ATTACKS[kind].model_fields["norm"].annotation
    return [norm for norm in ("linf", "l2") if norm in get_args(annotation)]


class TestAttacks(AttackKit):
    test_a_cheaper_form_is_of_the_same_kind_and_asks_no_more = pytest.mark.slow(
        AttackKit.test_a_cheaper_form_is_of_the_same_kind_and_asks_no_more
    )

    @pytest.fixture(
        params=[
            pytest.param((kind, norm), marks=[pytest.mark.slow] if kind in SLOW else [], id=f"{kind}-{norm}")
            for kind in ATTACKS
            for norm in norms(kind)
        ]
    )
    def attack(self, request: pytest.FixtureRequest) -> Attack:
        kind, norm = request.param
        return ATTACKS.parse({"kind": kind, "norm": norm, **SMALL.get(kind, {})})
