from __future__ import annotations

import pytest

from trainables.method.phases import Measure, Prune, Threshold, Train
from trainables.recipes.rakin2019 import PUBLISHED, Rakin2019
from trainables.reparametrisations.base import Plain
from trainables.reparametrisations.noise import Noise


def test_trains_with_noise_cuts_once_and_tunes_if_asked() -> None:
    train, dense, cut, end = Rakin2019(sparsity=0.85).phases()
    assert isinstance(train, Train)
    assert train.weights == Noise(coefficients="channel", init=0.25)
    assert (dense, end) == (Measure(stands_for={"sparsity": 0.0, "threshold": None}), Measure())
    assert isinstance(cut, Prune)
    assert (cut.sparsity, cut.pruning.scope) == (0.85, "global")
    *_, tune, _ = Rakin2019(finetune_epochs=3, finetune_lr=0.01).phases()
    assert isinstance(tune, Train)
    assert (tune.epochs, tune.training.optimiser.lr, tune.weights) == (3, 0.01, Noise())


@pytest.mark.parametrize(("epochs", "penalty_steps"), [(160, 62_560), (40, 62_560), (40, None)])
def test_the_lasso_of_the_fine_tuning_is_as_strong_as_that_of_the_training(
    epochs: int, penalty_steps: int | None
) -> None:
    recipe = Rakin2019(epochs=epochs, finetune_epochs=10, penalty_steps=penalty_steps)
    train, tune = (phase for phase in recipe.phases() if isinstance(phase, Train))
    assert train.penalty_factor(391) == (1.0 if penalty_steps is None else 160 / epochs)
    assert tune.penalty_factor(391) == pytest.approx(train.penalty_factor(391), rel=1e-3)


def test_a_threshold_takes_the_place_of_the_budget() -> None:
    *_, cut, _ = Rakin2019(sparsity=0.0, threshold=1e-3).phases()
    assert cut == Threshold(below=1e-3)


def test_what_the_training_does_not_name_is_as_published() -> None:
    recipe = Rakin2019.model_validate({"kind": "rakin2019", "weights": "plain", "train": {"batch": 7}})
    assert recipe.weights == Plain()
    assert (recipe.train.batch, recipe.train.loss.kind, recipe.train.attack_labels) == (7, "mix", "predicted")
    assert float(recipe.train.eps) == PUBLISHED["eps"]
    assert recipe.train.attack.share * recipe.train.eps == pytest.approx(0.01)  # type: ignore[attr-defined]
