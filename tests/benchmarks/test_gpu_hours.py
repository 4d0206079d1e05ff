"""The computed cost of a study against passes counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
from gpu_hours import IMAGES, confirmed, count, report, trainings, wanted

from search.study.file import from_dict
from search.study.spec import StudySpec
from trainables.method.phases import Train
from trainables.recipes.trial import TrialSpec
from trainables.reparametrisations.learned import Scores

FIRST, REST = 64 * 10, 10 * 10
"""Weights of the first layer, whose input needs no gradient while weights are trained, and of the others."""


def study(**train: Any) -> StudySpec:
    return from_dict(
        {
            "name": "small",
            "data": {"kind": "digits", "validation": 38, "limit": 438},
            "model": {"kind": "lenet300", "hidden": [10]},
            "recipe": {"kind": "hydra", "epochs": 4, "prune_epochs": 2, "finetune_epochs": 3, "train": train},
            "space": {"recipe.sparsity": {"kind": "categorical", "choices": [0.5, 0.9]}},
            "sampler": "grid",
            "seeds": [0, 1],
        }
    )


def counted(**train: Any) -> float:
    trial = study(**train).trial({"recipe.sparsity": 0.5})
    phase = next(phase for phase in trial.recipe.phases() if isinstance(phase, Train))
    return count(trial, phase).trained


def test_a_natural_step_is_a_forward_pass_and_the_gradients_of_what_is_trained() -> None:
    assert counted(loss="natural") == 2 * (2 * FIRST + 3 * REST)


def test_each_step_of_the_attack_adds_a_pass_forth_and_back() -> None:
    one, three = (counted(loss="madry", attack={"kind": "pgd", "steps": steps}) for steps in (1, 3))
    assert three - one == pytest.approx(2 * 2 * 2 * (FIRST + REST))
    assert one == pytest.approx(2 * (2 * FIRST + 3 * REST) + 2 * 2 * (FIRST + REST), rel=0.01)


def test_a_perturbation_of_the_weights_adds_a_step_without_its_attack() -> None:
    attack = {"kind": "pgd", "steps": 2}
    assert counted(loss="madry", attack=attack, awp=0.01) - counted(loss="madry", attack=attack) == pytest.approx(
        2 * (2 * FIRST + 3 * REST)
    )


def test_images_held_back_are_attacked_and_measured_once_an_epoch() -> None:
    spec = study(loss="natural", select=50, select_attack={"kind": "pgd", "steps": 5})
    trial = spec.trial({"recipe.sparsity": 0.5})
    phase = trial.recipe.phases()[0]
    assert isinstance(phase, Train)
    held = count(trial, phase).held_back
    assert 2 * 2 * 5 * (FIRST + REST) <= held <= 2 * (2 * 5 + 4) * (FIRST + REST)


def test_shared_trainings_count_once_for_each_seed() -> None:
    spec = study(loss="natural")
    found: list[tuple[TrialSpec, Train]] = list(trainings(spec).values())
    assert len(found) == 2 * (1 + 2 * 2)
    assert sum(phase.length for _, phase in found) == 2 * (4 + 2 * (2 + 3))
    assert sum(isinstance(phase.weights, Scores) for _, phase in found) == 4
    text = report(spec, 1.0, 0.5)
    assert "| training, in all | 28 |" in text
    assert "AutoAttack of 4 networks" in text
    assert IMAGES == 4


def test_a_papers_table_is_a_study_too() -> None:
    assert wanted("rakin2019/resnet20").recipe.epochs == 160
    assert wanted("quickstart").name == "quickstart"


@pytest.mark.parametrize(
    ("name", "networks"),
    [("rakin2019/resnet20", 8 * 3), ("cosentino2019/mnist", 3 * 6 * 5), ("piras2024/hydra", 3 * 3)],
)
def test_all_networks_of_a_papers_table_are_attacked(name: str, networks: int) -> None:
    """Dense and pruned ones, of each seed: what `confirm --points paper` measures."""
    assert confirmed(wanted(name)) == networks
