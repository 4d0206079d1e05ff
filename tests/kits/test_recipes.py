"""What every recipe in the registry must do; a new one needs its registry line and a small form below."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.core.spec import plain
from trainables.data import tensors
from trainables.recipes import RECIPES
from trainables.recipes.trial import TrialSpec, keyed_phases
from trainables.store.records import Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.run import Run

CPU = torch.device("cpu")
TRAIN: dict[str, Any] = {
    "batch": 100,
    "eps": 0.1,
    "attack": {"kind": "pgd", "steps": 2},
    "optimiser": {"kind": "adam", "lr": 2e-3},
    "precision": "fp32",
}
SPARSITY = 0.7
SMALL: dict[str, dict[str, Any]] = {
    "three_stage": {"epochs": 2, "finetune_epochs": 2},
    "imp": {"epochs": 2, "rate": 0.5, "rewind": 1},
    "guo2018": {"epochs": 2, "retrain_epochs": 1, "train": {"activation_l1": 1e-5, "validate_on": 50}},
    "cosentino2019": {"epochs": 2, "rate": 0.5, "last_rate": 0.3, "train": {"validate_on": 50}},
    "wang2020": {"epochs": 2, "rounds": 2, "retrain_epochs": 1, "weights": "rewound", "large": "none"},
    "hydra": {"epochs": 2, "prune_epochs": 2, "finetune_epochs": 1},
    "harp": {"epochs": 2, "prune_epochs": 2, "finetune_epochs": 1, "begin": 0.5},
    "radmm": {"epochs": 2, "admm_epochs": 3, "update_epochs": 1, "rho": 0.1, "retrain_epochs": 1},
    "twin_rep": {"epochs": 4, "prune_epoch": 2},
    "mad": {"epochs": 2, "finetune_epochs": 2},
    "rakin2019": {"epochs": 2, "finetune_epochs": 2, "train": {"loss": "mix", "regularisers": {"l1": 1e-5}}},
    "shi2022": {"epochs": 2, "search_epochs": 3, "imitation": {"rerank": 2, "attack": {"kind": "pgd", "steps": 2}}},
    "gradual": {"epochs": 3, "every": 2},
    "flying_bird": {"epochs": 4, "dynamics": {"every": 2}, "train": {"select": 50}},
    "filter": {"epochs": 2, "finetune_epochs": 2},
}
"""By recipe, what makes it run in about a second: fields of the recipe, beside TRAIN and SPARSITY.

A trial trains LeNet-300-100 with 32 and 16 hidden units; `MODELS` names another network where that will not do.
"""
MORE: dict[str, dict[str, Any]] = {
    "harp-filter": {**SMALL["harp"], "kind": "harp", "structure": "filter", "counts": "macs"},
}
"""Other ways of a recipe, that are tested as well; each names its kind."""
MODELS: dict[str, Any] = {"guo2018": {"kind": "lenet300", "hidden": [32, 16], "active": 0.5}}
NOMINAL = {"cosentino2019": 0.05}
"""By recipe, how far measurements on the way may be from the sparsity that they stand for."""
COARSE = {"filter": 0.02, "harp-filter": 0.03}
"""By form, how much sparser than asked a network may be, where not single weights are cut."""
UNKNOWN = ("code_version", "device", "seconds", "started", "finished")


SLOW = {"shi2022", "cosentino2019"}


@pytest.fixture(
    params=[pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in (*RECIPES, *MORE)]
)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trial(form: str) -> TrialSpec:
    fields = {**SMALL, **MORE}.get(form)
    assert fields is not None, f"give {form} a small form in {Path(__file__).name}"
    fields = {"kind": form, "sparsity": SPARSITY, **fields}
    fields["train"] = {**TRAIN, **fields.get("train", {})}
    described = {
        "data": {"kind": "digits", "limit": 300, "validation": 100},
        "model": MODELS.get(form, {"kind": "lenet300", "hidden": [32, 16]}),
        "recipe": fields,
        "protocol": {"eps": 0.1, "examples": 50, "attack": {"kind": "pgd", "steps": 2}},
        "seed": 5,
    }
    return TrialSpec.model_validate(described)


def run(trial: TrialSpec, place: Path, number: int = 0) -> Run:
    data = tensors.load(trial.data, CPU)
    return Run(trial, data, Stages(Storage(str(place))), number, "study", CPU, checkpoint_seconds=0.0)


def facts(found: list[Point]) -> list[dict[str, Any]]:
    """Return all of the points that does not depend on when and where they were measured."""
    return [point.model_dump(exclude={*UNKNOWN}) for point in found]


def points(trial: TrialSpec, place: Path, stop: int | None = None) -> list[Point]:
    """Run a trial, or break it off after `stop` reports, and return the points it came to."""
    found = []
    reports = run(trial, place).progress()
    for count, report in enumerate(reports, start=1):
        if report.point is not None:
            found.append(report.point)
        if count == stop:
            reports.close()
    return found


def test_ends_with_the_budget_and_keeps_no_more_than_it_says(form: str, trial: TrialSpec, tmp_path: Path) -> None:
    found = points(trial, tmp_path)
    assert found
    for point in found:
        aim = float(point.stands_for.get("sparsity", trial.recipe.sparsity))
        nominal = NOMINAL.get(trial.recipe.kind, 0.0) if point is not found[-1] else 0.0
        # A weight may be trained to exactly 0; more than a few that are would be masks of another size.
        allowed = nominal + COARSE.get(form, 0.0) + 2 / point.prunable
        assert point.sparsity == pytest.approx(aim, abs=allowed), point.stands_for
        if not nominal:
            assert point.nonzero <= point.prunable - round(aim * point.prunable)
    assert found[-1].stands_for.get("sparsity", SPARSITY) == SPARSITY


def test_broken_off_anywhere_it_ends_with_the_same_bits(trial: TrialSpec, tmp_path: Path) -> None:
    whole = run(trial, tmp_path / "whole")
    reports = list(whole.progress())
    wanted = facts([report.point for report in reports if report.point is not None])
    stops = range(1, len(reports)) if len(reports) <= 6 else sorted({1, 2, *range(4, len(reports), 5)})
    for stop in stops:
        place = tmp_path / str(stop)
        points(trial, place, stop)
        assert facts(points(trial, place)) == wanted, f"broken off after {reports[stop - 1]}"
    # Broken off again and again, a report at a time.
    place = tmp_path / "often"
    for stop in stops:
        points(trial, place, stop)
    assert facts(points(trial, place)) == wanted


def test_is_plain_data_whose_keys_survive_json(trial: TrialSpec) -> None:
    again = TrialSpec.model_validate(json.loads(json.dumps(plain(trial))))
    assert again == trial
    assert keyed_phases(again, "fingerprint") == keyed_phases(trial, "fingerprint")


def test_another_sparsity_changes_the_end_and_not_the_beginning(trial: TrialSpec) -> None:
    sparser = trial.model_copy(update={"recipe": trial.recipe.model_copy(update={"sparsity": 0.8})})
    one, other = ([step.key for step in keyed_phases(spec, "fingerprint")] for spec in (trial, sparser))
    assert one[0] == other[0]
    assert one[-1] != other[-1]
