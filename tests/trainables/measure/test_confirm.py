from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainables.measure.factories import EPS, SPLIT, linear, measured, split_of
from trainables.attacks.base import Attack
from trainables.attacks.fmn import Fmn
from trainables.attacks.pgd import Pgd
from trainables.attacks.square import Square
from trainables.core.errors import SpecError
from trainables.core.spec import Eps
from trainables.measure import confirm, evaluate
from trainables.measure.confirm import Subject
from trainables.method.confirmation import CLEAN, EOT, Step
from trainables.method.protocol import Protocol
from trainables.models.noise import Noise
from trainables.store.state import State

PGD = Step(name="pgd", attack=Pgd(steps=20), eps=Eps(EPS))
ALL = np.arange(len(SPLIT))
CPU = torch.device("cpu")


def subject(model: nn.Module, state: State | None = None, protocol: Protocol | None = None) -> Subject:
    return Subject.of(model, State.of(model) if state is None else state, protocol or Protocol(eps=EPS), CPU)


def noisy(strength: float) -> tuple[nn.Module, State]:
    model = linear()
    state = State.of(model)
    name = next(iter(state.masks))
    alpha = torch.full_like(state.params[name], strength)
    return model, replace(state, extras=Noise({name: alpha}, masked=False, nonzero=False).tensors())


def test_a_step_finds_what_the_measurement_of_a_protocol_finds() -> None:
    direct = measured(linear(), Protocol(attack=Pgd(steps=20), eps=EPS))
    own = subject(linear())
    assert np.array_equal(confirm.run(own, CLEAN, SPLIT, ALL).correct, direct.clean_correct)
    assert np.array_equal(confirm.run(own, PGD, SPLIT, ALL).correct & direct.clean_correct, direct.robust_correct)


def test_only_the_examples_of_the_index_are_attacked() -> None:
    index = np.array([7, 3, 200])
    found = confirm.run(subject(linear()), PGD, SPLIT, index)
    assert np.array_equal(found.correct, confirm.run(subject(linear()), PGD, SPLIT, ALL).correct[index])
    assert len(confirm.run(subject(linear()), PGD, SPLIT, ALL[:0]).correct) == 0


def test_distances_are_the_closed_form_of_a_linear_network() -> None:
    split, model = split_of(classes=2), linear(classes=2)
    weight, bias = (p.detach() for p in model.parameters())
    difference = weight[0] - weight[1]
    margin = (1.0 - 2.0 * split.y) * (split.pixels().flatten(1) @ difference + bias[0] - bias[1])
    expected = (margin / difference.abs().sum()).clamp_min(0).numpy()
    step = Step(name="fmn", attack=Fmn(), eps=Eps(EPS))
    index = np.flatnonzero((expected > 0) & (expected < 0.15))  # Nearer than the pixel box.
    found = confirm.run(subject(model), step, split, index)
    assert found.distances is not None
    assert bool((found.distances >= expected[index] - 1e-6).all())
    assert float(np.median(found.distances / expected[index])) < 1.05
    assert np.array_equal(found.correct, found.distances > EPS + 1e-9)


def test_inputs_made_for_another_network_are_shown_to_the_measured_one() -> None:
    """An equal source breaks what a direct attack breaks; one without gradients next to nothing."""
    own, twin = subject(linear()), linear().eval()
    transfer = Step(name="transfer-twin", attack=Pgd(steps=20), eps=Eps(EPS), source="twin")
    direct, found = (confirm.run(own, step, SPLIT, ALL, twin) for step in (PGD, transfer))
    assert np.array_equal(found.correct, direct.correct)
    blind = linear(scale=0.0).eval()
    assert confirm.run(own, transfer, SPLIT, ALL, blind).correct.mean() > direct.correct.mean() + 0.1
    with pytest.raises(SpecError, match="the network twin is missing"):
        confirm.run(own, transfer, SPLIT, ALL)


@pytest.mark.slow
def test_noise_is_judged_by_the_majority_of_fresh_draws() -> None:
    protocol = Protocol(attack=Pgd(steps=5), eps=EPS, noise=True)
    own = subject(*noisy(0.0), protocol=protocol)
    assert (own.votes, own.draws) == (EOT, EOT)
    quiet = confirm.run(own, PGD, SPLIT, ALL)
    assert np.array_equal(quiet.correct, confirm.run(subject(linear()), PGD, SPLIT, ALL).correct)
    loud = subject(*noisy(3.0), protocol=protocol)
    found = [confirm.run(loud, PGD, SPLIT, ALL[:64]).correct for _ in range(2)]
    assert np.array_equal(found[0], found[1]), "draws follow from the step, not from what ran before"
    off = Step(name="noise-off", role="noise_off", attack=Pgd(steps=20), eps=Eps(EPS), source="noise-off")
    assert np.array_equal(confirm.run(loud, off, SPLIT, ALL).correct, quiet.correct)


def test_a_protocol_without_noise_measures_the_network_without_it() -> None:
    own = subject(*noisy(3.0))
    assert own.draws == 0
    assert np.array_equal(
        confirm.run(own, PGD, SPLIT, ALL).correct, confirm.run(subject(linear()), PGD, SPLIT, ALL).correct
    )


@pytest.mark.parametrize("passes", [0, 1, 7, 25])
def test_it_ends_before_the_next_pass_when_asked(passes: int) -> None:
    asked = iter([*[False] * passes, True])
    with pytest.raises(confirm.Cancelled):
        confirm.run(subject(linear()), PGD, SPLIT, ALL, cancelled=lambda: next(asked))
    assert list(asked) == []


@pytest.mark.parametrize("attack", [Square(queries=20), Fmn(steps=10)])
def test_a_step_goes_on_after_the_chunks_that_are_done(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(evaluate.CHUNK, "cpu", 64)
    step, own = Step(name="step", attack=attack, eps=Eps(EPS)), subject(linear())
    kept: list[confirm.Found] = []
    whole = confirm.run(own, step, SPLIT, ALL, keep=kept.append)
    assert [len(found.correct) for found in kept] == [64, 128, 192, 256, 300]
    for found in (*kept, None):
        again: list[confirm.Found] = []
        resumed = confirm.run(own, step, SPLIT, ALL, begun=found, keep=again.append)
        assert len(again) == 5 - (kept.index(found) + 1 if found else 0)
        assert np.array_equal(resumed.correct, whole.correct)
        assert (resumed.distances is None) == (whole.distances is None)
        if whole.distances is not None and resumed.distances is not None:
            assert np.array_equal(resumed.distances, whole.distances)


def test_an_attack_never_helps_the_network() -> None:
    square = Step(name="square", attack=Square(queries=20), eps=Eps(EPS))
    clean = confirm.run(subject(linear()), CLEAN, SPLIT, ALL).correct
    index = np.flatnonzero(clean)
    assert 0 < confirm.run(subject(linear()), square, SPLIT, index).correct.sum() < len(index)
