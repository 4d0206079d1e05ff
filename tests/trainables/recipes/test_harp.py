"""HARP as its code trains it."""

from __future__ import annotations

import pytest

from trainables.core.spec import Eps
from trainables.losses.cross_entropy import Madry
from trainables.losses.trades import Trades
from trainables.method.phases import Train
from trainables.method.schedules import Cosine
from trainables.optimisers.sgd import Sgd
from trainables.recipes.harp import Harp
from trainables.recipes.hydra import Hydra
from trainables.reparametrisations.learned import Rated, Scores


def test_it_trains_on_adversarial_images_alone_where_hydra_trains_by_trades() -> None:
    harp, hydra = Harp().train, Hydra().train
    assert (harp.loss, hydra.loss) == (Madry(), Trades(beta=6))
    assert harp.optimiser == Sgd(lr=0.1, momentum=0.9, weight_decay=5e-4)
    assert hydra.optimiser == Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4)
    for training in (harp, hydra):
        assert (training.batch, training.schedule, training.eps, training.precision) == (
            128,
            Cosine(),
            Eps(0.031),
            "fp32",
        )
        assert training.attack.step_size * 0.031 == pytest.approx(0.0078)


@pytest.mark.parametrize("kind", [Harp, Hydra])
def test_batch_norms_are_trained_with_the_scores_and_biases_are_not(kind: type[Harp | Hydra]) -> None:
    found = kind().search()
    assert isinstance(found, Scores | Rated)
    assert found.train_rest == "norms"


@pytest.mark.parametrize(("epochs", "gamma"), [(20, 0.01), (2, 0.1), (40, 0.005)])
def test_the_penalty_grows_as_much_in_a_search_of_any_length(epochs: int, gamma: float) -> None:
    """As it does in 20 epochs of 391 steps: to 20 gamma, for 7,820 steps."""
    search = next(p for p in Harp(prune_epochs=epochs).phases() if isinstance(p, Train) and p.weights.kind == "rated")
    assert isinstance(search.weights, Rated)
    assert search.weights.gamma == pytest.approx(gamma)
    assert search.penalty_factor(47) == pytest.approx(7820 / (epochs * 47))
    assert all(p.penalty_steps is None for p in Harp().phases() if isinstance(p, Train) and p.weights.kind == "plain")
