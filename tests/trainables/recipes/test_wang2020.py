"""Weights inheritance as a recipe: its phases, its baselines, and a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.trainables.models.factories import SHAPE, small_state, trained_net
from trainables.data import tensors
from trainables.engine.inherit import inherit
from trainables.losses.cross_entropy import Natural
from trainables.method.phases import Inherit, Measure, Phase, Prune, Rewind, Train
from trainables.models.graph.channels import Wiring
from trainables.recipes.trial import TrialSpec
from trainables.recipes.wang2020 import Wang2020
from trainables.store.records import Point
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Storage
from trainables.worker.run import Run


def _trainings(phases: tuple[Phase, ...]) -> list[int]:
    return [phase.epochs for phase in phases if isinstance(phase, Train)]


def test_prunes_in_rounds_of_one_share_and_inherits() -> None:
    recipe = Wang2020(sparsity=0.91, epochs=9, rounds=2, retrain_epochs=4, large_epochs=6, weights="rewound")
    phases = recipe.phases()
    assert [phase.sparsity for phase in phases if isinstance(phase, Prune)] == pytest.approx([0.7, 0.91])
    assert [phase.to for phase in phases if isinstance(phase, Rewind)] == ["init", "init"]
    assert _trainings(phases) == [9, 4, 4, 6]
    assert sum(_trainings(phases)) == recipe.compute()
    assert [isinstance(phase, Inherit) for phase in phases[-3:]] == [True, False, False]
    rounds = [phase.stands_for for phase in phases if isinstance(phase, Measure)][1:3]
    # What a small network's measurement stands for is a recipe that ends with it.
    for stands_for in rounds:
        shorter = Wang2020.model_validate({**recipe.model_dump(), **stands_for}).phases()
        assert shorter == phases[: len(shorter)]


def test_baselines_train_the_large_network_as_long_as_the_last_training_or_all() -> None:
    fields: dict[str, Any] = {"epochs": 9, "retrain_epochs": 4, "large_epochs": 6}
    assert Wang2020(large="equal_epochs", **fields).phases()[:1] == (Train(epochs=6, training=Wang2020().train),)
    assert _trainings(Wang2020(large="equal_compute", **fields).phases()) == [19]
    assert _trainings(Wang2020(large="equal_compute", small="narrow", **fields).phases()) == [15]
    assert _trainings(Wang2020(small="narrow", **fields).phases()) == [9, 6]


def test_slimming_and_natural_training_are_of_the_dense_network_alone() -> None:
    phases = Wang2020(small="slimming", natural_first=True, slimming=0.01).phases()
    dense, *rest = (phase.training for phase in phases if isinstance(phase, Train))
    assert dense.loss == Natural()
    assert dense.regularisers["slimming"].weight == 0.01
    assert all(training == Wang2020().train for training in rest)
    # What the dense network's measurement stands for is that training alone.
    assert Wang2020(small="slimming", natural_first=True, slimming=0.01, sparsity=0.0).phases() == phases[:2]


@pytest.mark.parametrize("small", ["filter", "slimming", "narrow"])
def test_filters_that_would_get_no_gradient_are_refused(small: str) -> None:
    for fields in ({"rest": "zero"}, {"rest": "silent", "rest_scale": 0.0}):
        with pytest.raises(ValidationError, match="nothing would be inherited; set rest to silent"):
            Wang2020.model_validate({"small": small, **fields})
        Wang2020.model_validate({"small": small, **fields, "large": "none"})
    assert Wang2020.model_validate({"small": small}).rest == "silent"


def test_all_that_silent_filters_open_is_trained() -> None:
    """Of the weights that the small network lacks, none is still what it was after a few steps: each has a gradient."""
    model = {"kind": "lenet300", "hidden": [40, 20]}
    small = small_state(trained_net(model, 0), "filter")
    wiring = Wiring(trained_net(model, 1), SHAPE)
    large = inherit(Inherit(rest="silent"), small, State.of(trained_net(model, 7)), wiring)
    net = large.into(trained_net(model, 1)).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    x, y = torch.rand(16, *SHAPE), torch.arange(16) % 3
    for _ in range(3):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    opened = {name: ~small.masks[name] for name in small.prunable()}
    moved = sum(int((net.get_parameter(n)[mask] != large.params[n][mask]).sum()) for n, mask in opened.items())
    # A unit that is dead for all images has no gradient, whatever it has inherited.
    assert moved > 0.9 * sum(int(mask.sum()) for mask in opened.values())


def _points(place: Path, **recipe: Any) -> list[Point]:
    train = {"batch": 100, "eps": 0.1, "attack": {"kind": "pgd", "steps": 2}, "precision": "fp32"}
    train["optimiser"] = {"kind": "adam", "lr": 2e-3}
    fields = {"kind": "wang2020", "sparsity": 0.7, "epochs": 2, "retrain_epochs": 2, "large_epochs": 2, "train": train}
    spec = TrialSpec.model_validate(
        {
            "data": {"kind": "digits", "limit": 300, "validation": 100},
            "model": {"kind": "lenet300", "hidden": [32, 16]},
            "recipe": {**fields, **recipe},
            "protocol": {"eps": 0.1, "examples": 50, "attack": {"kind": "pgd", "steps": 2}, "metrics": ["spectrum"]},
        }
    )
    data = tensors.load(spec.data, torch.device("cpu"))
    run = Run(spec, data, Stages(Storage(str(place))), 0, "study", torch.device("cpu"), 0.0)
    reports = run.progress()
    return [report.point for report in reports if report.point is not None]


@pytest.mark.slow
@pytest.mark.parametrize(("small", "rest"), [("global", "zero"), ("filter", "random"), ("narrow", "silent")])
def test_the_large_network_comes_out_dense_and_the_small_one_was_not(tmp_path: Path, small: str, rest: str) -> None:
    *_, last_small, large = _points(tmp_path, small=small, rest=rest)
    assert last_small.sparsity == pytest.approx(0.7, abs=0.02)
    assert last_small.sparsity >= 0.7 - 1e-3
    assert large.sparsity < 0.35
    assert large.epochs_trained == (4 if small == "narrow" else 6)
    assert large.metrics["sigma"] is not None
    again = _points(tmp_path / "again", small=small, rest=rest)
    assert again[-1].weights_sha256 == large.weights_sha256
