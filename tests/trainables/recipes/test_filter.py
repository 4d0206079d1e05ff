"""Whole filters: a fine-tuning that collapses, and what keeps it from that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainables.recipes.trial import TrialSpec
from trainables.store.records import Point
from trainables.testing.recipes import points


def last(folder: Path, **recipe: Any) -> Point:
    """Measure a network of whole units with 2 % of the weights, fine-tuned at once within the full radius."""
    train = {"batch": 32, "optimiser": {"kind": "sgd", "lr": 0.05, "weight_decay": 1e-4}, "eps": 0.1}
    train |= {"attack": {"kind": "pgd", "steps": 5, "step_size": 0.3}, "precision": "fp32"}
    described = {
        "data": {"kind": "digits", "validation": 300},
        "model": "lenet300",
        "seed": 1,
        "recipe": {"kind": "filter", "sparsity": 0.98, "epochs": 11, "finetune_epochs": 15, **recipe, "train": train},
        "protocol": {"eps": 0.1, "attack": {"kind": "pgd", "steps": 10}},
    }
    return points(TrialSpec.model_validate(described), folder)[-1]


@pytest.mark.slow
def test_a_warm_up_and_a_floor_keep_a_fine_tuning_from_collapse(tmp_path: Path) -> None:
    # Seeds 0 to 3 gave 23 to 44 % clean without either, 27 to 53 % with the floor alone, and 81 to 94 % with both.
    floor = {"scope": "layerwise", "floor": 8, "rescale": True}
    plain, floored = last(tmp_path, prune={"scope": "global"}), last(tmp_path, prune=floor)
    kept = last(tmp_path, prune=floor, finetune_eps_warmup=8)
    for without in (plain, floored):
        assert without.sparsity == pytest.approx(kept.sparsity, abs=0.005)
        assert kept.clean_accuracy > without.clean_accuracy + 0.2
        assert kept.robust_accuracy > without.robust_accuracy + 0.1
