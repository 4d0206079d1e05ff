"""What a training takes at an epoch: radius, loss, perturbation of weights."""

from __future__ import annotations

from trainables.core.spec import Eps
from trainables.losses.cross_entropy import Madry, Natural
from trainables.method.training import Training


def test_the_radius_rises_linearly_over_its_warm_up() -> None:
    training = Training(eps=Eps("8/255"), eps_warmup=4)
    assert [training.eps_at(epoch) * 255 for epoch in (0, 1, 2.5, 4, 9)] == [0, 2, 5, 8, 8]
    assert Training(eps=Eps(0.1)).eps_at(0) == 0.1


def test_natural_epochs_come_first() -> None:
    training = Training(natural_epochs=2)
    assert [training.loss_at(epoch) for epoch in range(4)] == [Natural(), Natural(), Madry(), Madry()]


def test_weights_are_perturbed_after_their_warm_up() -> None:
    training = Training(awp=0.01, awp_warmup=3)
    assert [training.awp_at(epoch) for epoch in (0, 2.9, 3, 7)] == [0, 0, 0.01, 0.01]
