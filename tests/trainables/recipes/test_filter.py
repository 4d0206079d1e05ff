"""Whole filters: a fine-tuning that collapses, and what keeps it from that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainables.recipes.trial import TrialSpec
from trainables.store.records import Point
from trainables.testing.recipes import points


def last(folder: Path, **recipe: Any) -> Point:
    """Measure a network of which 7 and 3 of 300 and 100 units are left, at once within the full radius."""
    train = {"batch": 64, "optimiser": {"kind": "sgd", "lr": 0.05, "weight_decay": 1e-4}, "eps": 0.15}
    train |= {"attack": {"kind": "pgd", "steps": 5, "step_size": 0.3}, "precision": "fp32"}
    described = {
        "data": {"kind": "digits", "validation": 300},
        "model": "lenet300",
        "recipe": {"kind": "filter", "sparsity": 0.99, "epochs": 11, "finetune_epochs": 11, **recipe, "train": train},
        "protocol": {"eps": 0.15, "attack": {"kind": "pgd", "steps": 10}},
    }
    return points(TrialSpec.model_validate(described), folder)[-1]


@pytest.mark.slow
def test_a_warm_up_and_a_floor_keep_a_fine_tuning_from_collapse(tmp_path: Path) -> None:
    plain = last(tmp_path)
    prune = {"scope": "layerwise", "floor": 4, "rescale": True}
    kept = last(tmp_path, finetune_eps_warmup=6, prune=prune)
    assert plain.sparsity == pytest.approx(kept.sparsity, abs=0.005)
    assert kept.clean_accuracy > plain.clean_accuracy + 0.15
    assert kept.robust_accuracy > plain.robust_accuracy + 0.05
