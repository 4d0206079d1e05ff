"""A loss, a pruner and a mask update from outside: one class and one registry line, the kits, and a real training."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch

from trainables.core.registry import Registry
from trainables.data import tensors
from trainables.losses import LOSSES
from trainables.losses.base import Loss
from trainables.mask_updates import MASK_UPDATES
from trainables.mask_updates.base import Fixed, MaskUpdate, MaskUpdateContext
from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.pruning import PRUNERS, Pruning
from trainables.pruning.base import Pruner
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe
from trainables.recipes.trial import TrialSpec
from trainables.store.records import Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.testing.losses import LossKit
from trainables.testing.mask_updates import MaskUpdateKit
from trainables.testing.pruners import PrunerKit
from trainables.worker.run import Run

CPU = torch.device("cpu")
REGISTRIES: list[Registry[Any]] = [LOSSES, PRUNERS, MASK_UPDATES, RECIPES]


@pytest.fixture(autouse=True)
def outsiders(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Import the plug-ins, and take them out of the registries afterwards."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_table", dict(registry._table))
    found = {}
    for name in ("focal", "balanced", "fade"):
        monkeypatch.delitem(sys.modules, f"tests.kits.outsiders.{name}", raising=False)
        found[name] = importlib.import_module(f"tests.kits.outsiders.{name}")
    return found


class TestFocal(LossKit):
    @pytest.fixture
    def loss(self) -> Loss:
        return LOSSES.parse("focal_of_test")


class TestBalanced(PrunerKit):
    @pytest.fixture
    def pruner(self) -> Pruner:
        return PRUNERS.parse("balanced_of_test")


class TestFade(MaskUpdateKit):
    @pytest.fixture
    def mask_update(self) -> MaskUpdate:
        return MASK_UPDATES.parse("fade_of_test")

    def promised(self, mask_update: Any, given: MaskUpdateContext) -> int | None:
        return sum(mask_update.left(int(mask.sum())) for mask in given.masks.values() if mask.dim() > 1)


class Updated(Recipe):
    """Prune at initialisation and train with a mask update."""

    kind: Literal["updated_of_test"] = "updated_of_test"
    prune: Pruning = Pruning()
    update: Annotated[MaskUpdate, MASK_UPDATES] = Fixed()

    def phases(self) -> tuple[Phase, ...]:
        cut = Prune(sparsity=self.sparsity, pruning=self.prune)
        return (cut, Train(epochs=self.epochs, training=self.train, rewiring=self.update), Measure())


def trained(place: Path, recipe: dict[str, Any], **training: Any) -> Point:
    """Train a small network for a few epochs and return what was measured last."""
    train = {"batch": 100, "eps": 0.1, "attack": {"kind": "pgd", "steps": 2}, "precision": "fp32"}
    adam = {"kind": "adam", "lr": 5e-3}
    trial = TrialSpec.model_validate(
        {
            "data": {"kind": "digits", "limit": 300, "validation": 100},
            "model": {"kind": "lenet300", "hidden": [32, 16]},
            "recipe": {"epochs": 4, "sparsity": 0.5, **recipe, "train": {**train, "optimiser": adam, **training}},
            "protocol": {"eps": 0.02, "examples": 100, "attack": {"kind": "pgd", "steps": 2}},
        }
    )
    run = Run(trial, tensors.load(trial.data, CPU), Stages(Storage(str(place))), 0, "study", CPU)
    points = [progress.point for progress in run.progress() if progress.point is not None]
    return points[-1]


def test_a_loss_from_outside_trains_a_network(tmp_path: Path) -> None:
    recipe = {"kind": "three_stage", "finetune_epochs": 2}
    point = trained(tmp_path, recipe, loss={"kind": "focal_of_test", "gamma": 1.0})
    assert point.clean_accuracy > 0.3
    assert point.sparsity == pytest.approx(0.5, abs=1e-3)


def test_a_pruner_from_outside_cuts_a_network(tmp_path: Path) -> None:
    recipe = {"kind": "three_stage", "finetune_epochs": 2, "prune": {"pruner": "balanced_of_test"}}
    point = trained(tmp_path, recipe)
    assert point.clean_accuracy > 0.3
    assert point.nonzero <= point.prunable - round(0.5 * point.prunable)


def test_a_mask_update_from_outside_thins_a_network(tmp_path: Path) -> None:
    RECIPES.register("updated_of_test", Updated)
    update = {"kind": "fade_of_test", "share": 0.2, "every": 10}
    point = trained(tmp_path, {"kind": "updated_of_test", "epochs": 20, "update": update}, loss="natural")
    # Of 60 steps; after steps 10, 20 and 30 each layer keeps four fifths.
    assert point.sparsity == pytest.approx(1 - 0.5 * 0.8**3, abs=0.01)
    assert point.clean_accuracy > 0.3


def test_nothing_of_it_stays_registered(outsiders: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "focal_of_test" in LOSSES
    monkeypatch.undo()
    assert not [kind for registry in REGISTRIES for kind in registry if kind.endswith("_of_test")]
