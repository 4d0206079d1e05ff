from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainables.attacks.pgd import Pgd
from trainables.core.spec import plain
from trainables.method.phases import Prune
from trainables.pruning.mad import Mad as Saliency
from trainables.recipes import RECIPES
from trainables.recipes.mad import Mad


def cut(fields: dict[str, Any]) -> Prune:
    recipe = RECIPES.parse({"kind": "mad", **fields})
    (phase,) = (phase for phase in recipe.phases() if isinstance(phase, Prune))
    assert RECIPES.parse(plain(recipe)) == recipe
    return phase


def test_the_pruners_images_are_attacked_as_the_trainings_are() -> None:
    phase = cut({"train": {"eps": "4/255", "attack": {"kind": "pgd", "steps": 3}}, "prune": {"scope": "layerwise"}})
    assert phase.pruning.scope == "layerwise"
    assert phase.pruning.pruner == Saliency(eps="4/255", attack=Pgd(steps=3))  # type: ignore[arg-type]


def test_what_training_does_not_name_is_as_published() -> None:
    train = Mad().train
    assert train == RECIPES.parse({"kind": "mad", "train": {}}).train
    assert (train.optimiser.lr, train.optimiser.weight_decay, train.schedule.kind) == (0.1, 2e-4, "step")
    assert train.attack == Pgd(steps=10, step_size=0.23)


@pytest.mark.parametrize(
    ("prune", "message"),
    [
        ({"pruner": "snip"}, "this recipe prunes by the pruner mad"),
        ({"pruner": {"kind": "mad", "eps": "2/255"}}, r"set train\.eps instead"),
        ({"pruner": {"kind": "mad", "attack": "fgsm"}}, r"set train\.attack instead"),
    ],
)
def test_another_pruner_or_attack_than_the_trainings_is_refused(prune: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RECIPES.parse({"kind": "mad", "prune": prune})


def test_the_trainings_own_radius_may_be_given_explicitly() -> None:
    fields = {"train": {"eps": 0.1}, "prune": {"pruner": {"kind": "mad", "eps": 0.1, "mask_steps": 3}}}
    assert float(cut(fields).pruning.pruner.eps) == 0.1  # type: ignore[attr-defined]
