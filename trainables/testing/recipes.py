"""What every recipe must do, trained for a second on images of digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.core.spec import plain
from trainables.data import tensors
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe
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
UNKNOWN = ("code_version", "device", "seconds", "started", "finished")


def run(trial: TrialSpec, storage: Path, number: int = 0) -> Run:
    data = tensors.load(trial.data, CPU)
    return Run(trial, data, Stages(Storage(str(storage))), number, "study", CPU, checkpoint_seconds=0.0)


def facts(found: list[Point]) -> list[dict[str, Any]]:
    """Return all of the points that does not depend on when and where they were measured."""
    return [point.model_dump(exclude={*UNKNOWN}) for point in found]


def points(trial: TrialSpec, storage: Path, stop: int | None = None) -> list[Point]:
    """Run a trial, or stop it after `stop` reports, and return the points measured."""
    found = []
    reports = run(trial, storage).progress()
    for count, report in enumerate(reports, start=1):
        if report.point is not None:
            found.append(report.point)
        if count == stop:
            reports.close()
    return found


def small(kind: str, **fields: Any) -> Recipe:
    """Return a recipe of some sparsity with a short training; `train` adds to the fields of that."""
    train = {**TRAIN, **fields.pop("train", {})}
    return RECIPES.parse({"kind": kind, "sparsity": SPARSITY, **fields, "train": train})


class RecipeKit:
    """Tests of a recipe in a form that `small` gives, with a few epochs of each phase."""

    nominal = 0.0
    """How far measurements before the last may be from the sparsity that they stand for."""
    coarse = 0.0
    """How much sparser than asked a network may be, where not single weights are cut."""

    @pytest.fixture
    def recipe(self) -> Recipe:
        """Return the recipe to test."""
        raise NotImplementedError

    @pytest.fixture
    def model(self) -> dict[str, Any]:
        """Return the network to train, for images of 8 x 8 pixels."""
        return {"kind": "lenet300", "hidden": [32, 16]}

    @pytest.fixture
    def tolerances(self) -> tuple[float, float]:
        """Return `nominal` and `coarse`, which a kit for several recipes may choose for each."""
        return self.nominal, self.coarse

    @pytest.fixture
    def trial(self, recipe: Recipe, model: dict[str, Any]) -> TrialSpec:
        described = {
            "data": {"kind": "digits", "limit": 300, "validation": 100},
            "model": model,
            "recipe": recipe,
            "protocol": {"eps": 0.1, "examples": 50, "attack": {"kind": "pgd", "steps": 2}},
            "seed": 5,
        }
        return TrialSpec.model_validate(described)

    def test_ends_with_the_budget_and_keeps_no_more_than_it_says(
        self, trial: TrialSpec, tolerances: tuple[float, float], tmp_path: Path
    ) -> None:
        found = points(trial, tmp_path)
        assert found
        for point in found:
            aim = float(point.stands_for.get("sparsity", trial.recipe.sparsity))
            nominal = tolerances[0] if point is not found[-1] else 0.0
            # A weight may be trained to exactly 0; more than a few that are would be masks of another size.
            allowed = nominal + tolerances[1] + 2 / point.prunable
            assert point.sparsity == pytest.approx(aim, abs=allowed), point.stands_for
            if not nominal:
                assert point.nonzero <= point.prunable - round(aim * point.prunable)
        assert found[-1].stands_for.get("sparsity", SPARSITY) == SPARSITY

    def test_broken_off_anywhere_it_ends_with_the_same_bits(self, trial: TrialSpec, tmp_path: Path) -> None:
        whole = run(trial, tmp_path / "whole")
        reports = list(whole.progress())
        wanted = facts([report.point for report in reports if report.point is not None])
        stops = range(1, len(reports)) if len(reports) <= 6 else sorted({1, 2, *range(4, len(reports), 5)})
        for stop in stops:
            storage = tmp_path / str(stop)
            points(trial, storage, stop)
            assert facts(points(trial, storage)) == wanted, f"stopped after {reports[stop - 1]}"
        # Stopped again and again.
        storage = tmp_path / "often"
        for stop in stops:
            points(trial, storage, stop)
        assert facts(points(trial, storage)) == wanted

    def test_is_plain_data_whose_keys_survive_json(self, trial: TrialSpec) -> None:
        again = TrialSpec.model_validate(json.loads(json.dumps(plain(trial))))
        assert again == trial
        assert keyed_phases(again, "fingerprint") == keyed_phases(trial, "fingerprint")

    def test_another_sparsity_changes_the_end_and_not_the_beginning(self, trial: TrialSpec) -> None:
        sparser = trial.model_copy(update={"recipe": trial.recipe.model_copy(update={"sparsity": 0.8})})
        one, other = ([step.key for step in keyed_phases(spec, "fingerprint")] for spec in (trial, sparser))
        assert one[0] == other[0]
        assert one[-1] != other[-1]
