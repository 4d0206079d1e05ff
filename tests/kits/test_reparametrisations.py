"""Every registered reparametrisation, by its kit; a kind with required fields needs a form here."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.reparametrisations import REPARAMETRISATIONS
from trainables.reparametrisations.base import Reparametrisation
from trainables.testing.reparametrisations import ReparametrisationKit

FORMS: dict[str, dict[str, Any]] = {
    "scores": {"sparsity": 0.5},
    "rated": {"sparsity": 0.5, "begin": 0.7},
    "admm": {"sparsity": 0.5, "rho": 0.1, "update_epochs": 1},
}
"""The fields that a kind requires."""
MORE: dict[str, dict[str, Any]] = {
    "rated-filter": {
        "kind": "rated",
        "sparsity": 0.5,
        "begin": 0.8,
        "structure": "filter",
        "counts": "macs",
        "s2ap": 0.01,
        "s2ap_warmup": 0,
    },
    "scores-erk": {"kind": "scores", "sparsity": 0.5, "layers": "erk", "s2ap": 0.01},
}
"""Other forms of a kind, that are tested as well."""


class TestReparametrisations(ReparametrisationKit):
    test_a_resumed_training_equals_an_uninterrupted_one = pytest.mark.slow(
        ReparametrisationKit.test_a_resumed_training_equals_an_uninterrupted_one
    )

    @pytest.fixture(params=[*REPARAMETRISATIONS, *MORE])
    def reparametrisation(self, request: pytest.FixtureRequest) -> Reparametrisation:
        fields = MORE.get(request.param, {"kind": request.param, **FORMS.get(request.param, {})})
        return REPARAMETRISATIONS.parse(fields)
