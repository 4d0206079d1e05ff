"""The epoch that is handed on, and the images that decide it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.trainables.engine.factories import EVERYTHING, KEY, data, end, network, phase, pruned, same, started
from trainables import attacks
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Fgsm, Pgd
from trainables.core.errors import SpecError
from trainables.core.spec import Eps
from trainables.data.tensors import Split
from trainables.engine.selection import EPOCH, ROBUST, Selection, collapsed, held_back
from trainables.engine.train import train
from trainables.mask_updates.base import EpochResult
from trainables.method.schedules import Constant
from trainables.method.training import Training
from trainables.optimisers.sgd import Sgd
from trainables.recipes.trial import TrialSpec
from trainables.store.state import State, pack, unpack

CPU, CONTIGUOUS = torch.device("cpu"), torch.contiguous_format

# A learning rate at which accuracy goes up and down.
ROUGH = {"select": 20, "optimiser": Sgd(lr=0.2), "schedule": Constant(), "eps": 0.3}


def _robust(state: State) -> float:
    """Measure on the images held back, by hand."""
    net = state.into(network()).eval()
    held_out = held_back(data().train, 20)[1]
    x, y = held_out.pixels(), held_out.y
    found = attacks.run(Pgd(steps=10), net, x, y, eps=0.3, generator=torch.Generator().manual_seed(0))
    return float(((net(found).argmax(1) == y) & (net(x).argmax(1) == y)).float().mean())


def test_the_most_robust_epoch_is_handed_on() -> None:
    plain, history = [], {}
    for report in started(phase(epochs=8, **ROUGH)):
        checkpoint = report.checkpoint()
        now = State(checkpoint["params"], checkpoint["buffers"], State.of(network()).masks)
        plain.append((_robust(now), now))
        last = report.state()
        history = last.history
        if report.epoch < 8:
            assert same(last, now), "a snapshot is of its epoch"
    scores = [score for score, _ in plain]
    assert len(set(scores)) > 2, "nothing to choose from"
    best = int(history[EPOCH]) - 1
    assert same(last, plain[best][1])
    assert float(history[ROBUST]) == pytest.approx(max(scores), abs=0.101)
    assert best < 7 or scores[-1] == max(scores)


def test_a_training_in_two_parts_chooses_at_its_end() -> None:
    *_, last = started(phase(epochs=8, **ROUGH).model_copy(update={"until": 4}))
    assert EPOCH not in last.state().history
    checkpoint = last.checkpoint()
    assert same(last.state(), State(checkpoint["params"], checkpoint["buffers"]))


def test_the_last_images_of_every_class_are_held_back() -> None:
    y = torch.tensor([0] * 30 + [1] * 20 + [3] * 10)
    rest, held_out = held_back(Split(torch.arange(60), y, 1.0), 12)
    assert held_out.x.tolist() == [*range(24, 30), *range(46, 50), 58, 59]
    assert torch.equal(held_out.y, y[held_out.x])
    assert sorted([*rest.x.tolist(), *held_out.x.tolist()]) == [*range(60)]


def test_what_is_held_back_is_not_trained_on() -> None:
    spec = phase(epochs=2, batch=40, **{"select": 20})
    changed = data()
    held_out = torch.isin(torch.arange(60), held_back(Split(torch.arange(60), changed.train.y, 1.0), 20)[1].x)
    x = changed.train.x.clone()
    x[held_out] = x[held_out].flip(0)
    object.__setattr__(changed.train, "x", x)
    model = network()
    one = end(started(spec)).checkpoint()["params"]
    other = end(train(model, State.of(network()), spec, changed, key=KEY, device="cpu")).checkpoint()["params"]
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(SpecError, match="holds back 60 of 60 training images"):
        next(started(phase(select=60)))


@pytest.mark.parametrize("at", [1, 4])
@pytest.mark.parametrize("more", [{}, {"attack": Fgsm(), "guard": Pgd(steps=2)}], ids=["", "guarded"])
def test_a_resumed_training_chooses_as_an_uninterrupted_one(at: int, more: dict[str, Any]) -> None:
    spec = phase(epochs=6, **{**EVERYTHING, **ROUGH, **more}, validate_on=10)
    begin = pruned(State.of(network()))
    wanted = end(started(spec, begin)).state()
    cut = started(spec, begin)
    for _ in range(at):
        report = next(cut)
    checkpoint = unpack(pack(report.checkpoint()))
    found = end(started(spec, begin, resume=(at, checkpoint))).state()
    assert same(found, wanted)
    assert {name: t.tolist() for name, t in found.history.items()} == {n: t.tolist() for n, t in wanted.history.items()}
    assert all(torch.equal(mask, begin.masks[name]) for name, mask in found.masks.items())


GUARDED = {**ROUGH, "attack": Fgsm(random_start=False, step_size=1.0), "eps": 0.6, "guard": Pgd(steps=3)}


def test_the_guard_attacks_after_a_collapse_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    attacked: list[str] = []
    run = attacks.run

    def noted(attack: Attack, *arguments: Any, **named: Any) -> Tensor:
        attacked.append(attack.label)
        return run(attack, *arguments, **named)

    monkeypatch.setattr("trainables.losses.base.run", noted)
    used, robust = [], []
    for report in started(phase(epochs=12, **GUARDED)):
        used.append({*attacked})
        attacked.clear()
        assert report.held_back is not None
        robust.append(report.held_back.robust_accuracy)
    wanted = ["FGSM", *("PGD-3" if robust[at] < max(robust[: at + 1]) / 2 else "FGSM" for at in range(11))]
    assert used == [{label} for label in wanted]
    assert len({*wanted}) == 2, "one of the attacks was never needed"


@pytest.mark.parametrize(
    ("epochs", "found"),
    [
        ([], False),
        ([(0.1, 0.0)], False),
        ([(0.5, 0.4), (0.9, 0.1)], True),
        ([(0.5, 0.4), (0.9, 0.2)], False),
        ([(0.5, 0.4), (0.15, 0.1)], False),
        ([(0.5, 0.4), (0.9, 0.1), (0.2, 0.15)], True),
        ([(0.5, 0.4), (0.9, 0.1), (0.2, 0.2)], False),
    ],
    ids=["none", "the first", "one step alone", "half", "both fall", "not yet back", "back"],
)
def test_a_collapse_is_a_fall_under_another_attack_than_that_of_the_training(
    epochs: list[tuple[float, float]], found: bool
) -> None:
    results = [EpochResult(number, trained, robust, 1.0) for number, (trained, robust) in enumerate(epochs, 1)]
    assert collapsed(results) is found


def test_without_a_guard_the_attack_stays() -> None:
    selection = Selection(phase(**ROUGH).training, Split(torch.zeros(1), torch.zeros(1), 1.0), KEY, CPU, CONTIGUOUS)
    selection.results = [EpochResult(1, 0.9, 0.4, 1.0), EpochResult(2, 0.9, 0.0, 1.0)]
    assert selection.attack == Training().attack


def test_what_cannot_be_chosen_by_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"guard.norm\n  pgd is in l2, but the radius"):
        Training(select=20, guard=Pgd(norm="l2"))
    with pytest.raises(ValidationError, match=r"select\n  a guard needs images that are held back"):
        Training(guard=Pgd())
    with pytest.raises(ValidationError, match=r"select_attack.norm\n  pgd is in linf, but the radius"):
        Training(select=20, attack=Pgd(norm="l2"), eps=Eps(0.5))
    assert Training(attack=Pgd(norm="l2"), eps=Eps(0.5)).select == 0
    trial = {"data": {"kind": "digits", "limit": 50}, "model": "linear"}
    with pytest.raises(ValidationError, match=r"recipe.train.select\n  holding back 50 of 50 training images"):
        TrialSpec.model_validate({**trial, "recipe": {"kind": "imp", "train": {"select": 50}}})
