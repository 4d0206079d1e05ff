from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainables import attacks, models
from trainables.attacks.pgd import Fgsm
from trainables.data import tensors
from trainables.data.digits import Digits
from trainables.engine.train import train
from trainables.losses.base import Adversary
from trainables.losses.cross_entropy import Mix
from trainables.method.phases import Train
from trainables.method.training import Training
from trainables.metrics.attacked import Attacked
from trainables.metrics.base import MetricContext
from trainables.metrics.early_stop import EarlyStop
from trainables.models.lenet import LeNet300
from trainables.optimisers.adam import Adam
from trainables.store.state import State

DATA = tensors.load(Digits(limit=300, validation=100))
ATTACK = Fgsm(random_start=False, step_size=1.0)
TRAINING = Training(
    batch=100, optimiser=Adam(lr=2e-3), loss=Mix(), attack=ATTACK, eps=0.1, label_smoothing=0.1, precision="fp32"
)


def build() -> nn.Module:
    spec = LeNet300(hidden=(16,))
    return models.build(spec, shape=DATA.shape, classes=10, mean=DATA.mean, std=DATA.std, seed=0)


def trained(**changes: object) -> list[State]:
    model = build()
    phase = Train(epochs=2, training=TRAINING.model_copy(update=changes))
    return [e.state() for e in train(model, State.of(model), phase, DATA, key="key", device="cpu")]


def test_history_is_the_training_loss_of_the_validation_images_in_eval_mode() -> None:
    states = trained(validate_on=80)
    assert states[-1].history["step"].tolist() == [3, 6]
    assert states[-1].history["epoch"].tolist() == [1, 2]
    for number, state in enumerate(states):
        net = state.into(build()).eval()
        x, y = DATA.validation.pixels(slice(0, 80)), DATA.validation.y[:80]
        found = attacks.run(ATTACK, net, x, y, eps=0.1, generator=torch.Generator(), keep="last")
        wanted = torch.stack([F.cross_entropy(net(z), y, label_smoothing=0.1) for z in (x, found)]).mean()
        assert float(states[-1].history["loss"][number]) == pytest.approx(float(wanted.detach()), rel=1e-4)


def test_looks_change_no_weight_and_may_be_taken_by_the_step() -> None:
    plain, looked, often = (
        trained(**c)[-1] for c in ({}, {"validate_on": 50}, {"validate_on": 50, "validate_every": 2})
    )
    assert plain.history == {}
    assert plain.weights_sha256() == looked.weights_sha256() == often.weights_sha256()
    # Three steps an epoch: the first and the third of each.
    assert often.history["step"].tolist() == [1, 3, 4, 6]
    assert often.history["loss"][[1, 3]].tolist() == looked.history["loss"].tolist()


def context(net: nn.Module, state: State, x: torch.Tensor, y: torch.Tensor) -> MetricContext:
    correct = net(x).argmax(dim=1) == y
    return MetricContext(
        net, state, x, y, 0.05, "linf", correct, correct, lambda: state, torch.Generator().manual_seed(0)
    )


def test_early_stop_is_where_the_loss_was_lowest() -> None:
    net = build()
    history = {"step": [10.0, 20.0, 30.0], "epoch": [0.5, 1.0, 1.5], "loss": [3.0, 1.0, 2.0]}
    state = State(**{**vars(State.of(net)), "history": {n: torch.tensor(v) for n, v in history.items()}})
    found = EarlyStop().values(context(net, state, torch.rand(2, 1, 8, 8), torch.tensor([0, 1])))
    assert found == {"early_stop_iteration": 20, "early_stop_epoch": 1, "early_stop_loss": 1}
    assert all(
        v != v for v in EarlyStop().values(context(net, State.of(net), torch.rand(2, 1, 8, 8), torch.ones(2))).values()
    )


def test_an_attack_off_predicted_labels_can_correct_a_mistake() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).requires_grad_(False)
    x = torch.rand(400, 1, 4, 4) * 0.8 + 0.1
    y = torch.randint(2, (400,))
    difference = net[1].weight[0] - net[1].weight[1]
    net[1].bias[0] = net[1].bias[1] - (x.flatten(1) @ difference).mean()
    margin = (1 - 2 * y) * (x.flatten(1) @ difference + net[1].bias[0] - net[1].bias[1])
    reach = 0.05 * difference.abs().sum()
    here = context(net, State.of(net), x, y)
    by_truth = Attacked(attack=ATTACK).values(here)["attacked_accuracy"]
    assert by_truth == pytest.approx(float((margin > reach).float().mean()))
    by_prediction = Attacked(attack=ATTACK, labels="predicted", name="theirs").values(here)["theirs_accuracy"]
    corrected = (margin <= 0) & (margin > -reach)
    assert bool(corrected.any())
    assert by_prediction == pytest.approx(float(((margin > reach) | corrected).float().mean()))


def test_the_adversary_of_a_training_can_climb_off_predicted_labels() -> None:
    net = build().eval()
    x = DATA.train.pixels(slice(0, 20))
    wrong = (net(x).argmax(dim=1) + 1) % 10
    adversary = Adversary(ATTACK, net, 0.1, torch.Generator(), "predicted")
    true = Adversary(ATTACK, net, 0.1, torch.Generator())
    assert torch.equal(adversary(x, wrong), true(x, net(x).argmax(dim=1)))
    assert not torch.equal(adversary(x, wrong), true(x, wrong))
