"""Every registered model, by its kit."""

from __future__ import annotations

import pytest

from trainables.models import MODELS
from trainables.models.base import Model
from trainables.testing.models import ModelKit

FIELDS = {"torchvision": {"name": "resnet18"}}
SLOW = {"resnet18", "torchvision", "vgg16", "wrn28_10"}


class TestModels(ModelKit):
    @pytest.fixture(
        params=[pytest.param(kind, marks=[pytest.mark.slow] if kind in SLOW else []) for kind in sorted(MODELS)],
    )
    def spec(self, request: pytest.FixtureRequest) -> Model:
        return MODELS.parse({"kind": request.param, **FIELDS.get(request.param, {})})
