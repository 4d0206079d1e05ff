"""The epoch that is handed on, and the images that decide it."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.test_train import EVERYTHING, KEY, data, end, network, phase, pruned, same, started
from trainables import attacks
from trainables.attacks.pgd import Pgd
from trainables.errors import SpecError
from trainables.selection import EPOCH, ROBUST
from trainables.state import State, pack, unpack
from trainables.train import train
from trainables.training import Constant, Sgd

# A learning rate at which accuracy goes up and down.
ROUGH = {"select": 20, "optimiser": Sgd(lr=0.2), "schedule": Constant(), "eps": 0.3}


def _robust(state: State) -> float:
    """Measure on the last 20 images, by hand."""
    net = state.into(network()).eval()
    x, y = data().train.pixels()[-20:], data().train.y[-20:]
    found = attacks.run(Pgd(steps=10), net, x, y, eps=0.3, generator=torch.Generator().manual_seed(0))
    return float(((net(found).argmax(1) == y) & (net(x).argmax(1) == y)).float().mean())


def test_the_most_robust_epoch_is_handed_on() -> None:
    plain, chosen = [], []
    for report in started(phase(epochs=8, **ROUGH)):
        checkpoint = report.checkpoint()
        now = State(checkpoint["params"], checkpoint["buffers"], State.of(network()).masks)
        plain.append((_robust(now), now))
        chosen.append(report.state())
    scores = [score for score, _ in plain]
    assert len(set(scores)) > 2, "nothing to choose from"
    for epoch, state in enumerate(chosen, start=1):
        best = int(state.history[EPOCH]) - 1
        assert best < epoch
        assert same(state, plain[best][1])
        assert float(state.history[ROBUST]) == pytest.approx(max(scores[:epoch]), abs=0.101)
    assert chosen[-1].history[EPOCH] < 8 or scores[-1] == max(scores)


def test_what_is_held_back_is_not_trained_on() -> None:
    spec = phase(epochs=2, batch=40, **{"select": 20})
    changed = data()
    object.__setattr__(changed.train, "x", torch.cat([changed.train.x[:-20], changed.train.x[-20:].flip(0)]))
    model = network()
    one = end(started(spec)).checkpoint()["params"]
    other = end(train(model, State.of(network()), spec, changed, key=KEY, device="cpu")).checkpoint()["params"]
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(SpecError, match="holds back 60 of 60 training images"):
        next(started(phase(select=60)))


@pytest.mark.parametrize("at", [1, 4])
def test_a_resumed_training_chooses_as_an_uninterrupted_one(at: int) -> None:
    spec = phase(epochs=6, **{**EVERYTHING, **ROUGH}, validate_on=10)
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
