"""Replayed steps compute what steps without a graph do, bit for bit: here with a stand-in for a GPU's graphs."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.engine.factories import EVERYTHING, KEY, data, network, phase, pruned, same
from tests.trainables.engine.tape import Tape
from trainables.attacks.pgd import Pgd
from trainables.engine import cuda_graphs
from trainables.engine.cuda_graphs import CudaGraphs, Given, Replayed, recorder_for
from trainables.engine.epoch import Epoch
from trainables.engine.optimisation import Optimisation
from trainables.engine.train import train
from trainables.losses.cross_entropy import Mix, Natural
from trainables.losses.mart import Mart
from trainables.losses.trades import Trades
from trainables.mask_updates.gradual import Gradual
from trainables.method.phases import Train
from trainables.models.lenet import LeNet300
from trainables.optimisers.adam import Adam, AdamW
from trainables.optimisers.sgd import Sgd
from trainables.reparametrisations.admm import Admm
from trainables.reparametrisations.learned import Rated
from trainables.reparametrisations.noise import Noise
from trainables.reparametrisations.twin import Twin
from trainables.store.state import State

RISING = {"schedule": {"kind": "cosine", "warmup": 2.0}}


def spec(weights: Any = None, rewiring: Any = None, penalty_steps: int | None = None, **fields: Any) -> Train:
    """Describe four epochs of six full batches, and a smaller one of four images."""
    found = phase(**{"epochs": 4, "batch": 9, "attack": Pgd(steps=2), **RISING, **fields})
    more = {"weights": weights, "rewiring": rewiring, "penalty_steps": penalty_steps}
    return found.model_copy(update={name: value for name, value in more.items() if value is not None})


Trained = list[tuple[Epoch, State, dict[str, Any]]]


def run(described: Train, tape: Tape | None, model: nn.Module | None = None, **options: Any) -> Trained:
    """Train, and return each epoch with its state and its checkpoint."""
    model = model or network()
    begin = pruned(State.of(model))
    epochs: Trained = []
    for epoch in train(model, begin, described, data(), key=KEY, device="cpu", recorder=tape, **options):
        epochs.append((epoch, epoch.state(), epoch.checkpoint()))
    return epochs


def compare(described: Train, model: Any = network) -> tuple[Epoch, Tape]:
    """Train with and without a tape, compare the bits of all epochs, and return the last one with it."""
    tape = Tape()
    plain, taped = run(described, None, model()), run(described, tape, model())
    for (one, state, checkpoint), (other, replayed_state, replayed) in zip(plain, taped, strict=True):
        assert (one.loss, one.accuracy, one.lr, one.eps) == (other.loss, other.accuracy, other.lr, other.eps)
        assert same(state, replayed_state)
        assert checkpoint.keys() == replayed.keys()
        for group, tensors in checkpoint.items():
            assert tensors.keys() == replayed[group].keys()
            assert all(torch.equal(tensor, replayed[group][name]) for name, tensor in tensors.items()), group
    assert plain[-1][0].not_replayed is None
    return taped[-1][0], tape


FULL = 4 * 6
OPTIMISERS = [Sgd(), Sgd(momentum=0.0), Sgd(nesterov=True), Adam(weight_decay=1e-3), AdamW()]
REPLAYED = {
    "plain": ({}, 3),
    "bf16": ({"precision": "bf16"}, 3),
    "trades": ({"loss": Trades()}, 3),
    "mart": ({"loss": Mart()}, 3),
    "predicted": ({"attack_labels": "predicted"}, 3),
    "penalties": ({"regularisers": {"l1": 1e-4, "group_lasso": 1e-4, "slimming": 1e-4}, "activation_l1": 1e-5}, 3),
    "watched": ({"validate_on": 20, "validate_every": 2}, 3),
    "perturbed weights": ({"awp": 0.01}, 3),
    "restarts": ({"attack": Pgd(steps=1, restarts=2)}, 3),
    # The radius of every step of the first one and a half epochs is another one.
    "everything": (EVERYTHING, 10 + 3),
    "natural first": ({"loss": Mix(), "natural_epochs": 2}, 6),
    "perturbed later": ({"awp": 0.01, "awp_warmup": 2.0}, 6),
    # Recorded anew in each epoch: what is prepared there may be numbers.
    "twin": ({"weights": Twin()}, 12),
    "noise": ({"weights": Noise()}, 12),
    "admm": ({"weights": Admm(sparsity=0.5, update_epochs=1), "penalty_steps": 1000}, 12),
}


QUICK = ("plain", "everything", "perturbed later", "admm")


@pytest.mark.parametrize(
    ("fields", "warmups"),
    [pytest.param(*case, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, case in REPLAYED.items()],
)
def test_replayed_steps_equal_those_without_a_graph(fields: dict[str, Any], warmups: int) -> None:
    last, _ = compare(spec(**fields))
    assert (last.not_replayed, last.replayed) == (None, FULL - warmups)


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=["sgd", "plain", "nesterov", "adam", "adamw"])
@pytest.mark.slow
def test_a_replayed_step_follows_the_learning_rate(optimiser: Any) -> None:
    last, tape = compare(spec(optimiser=optimiser, ema=0.9))
    assert (last.replayed, tape.recordings) == (FULL - 3, 1)


def test_masks_that_change_are_recorded_anew() -> None:
    last, tape = compare(spec(epochs=8, rewiring=Gradual(sparsity=0.8)))
    assert last.not_replayed is None
    assert last.replayed > 0
    assert tape.recordings > 1


def test_the_comparison_would_find_a_number_that_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the learning rate: the optimiser is given a number, and says that it is not."""
    monkeypatch.setattr(Optimisation, "_rate_tensor", lambda self: None)
    assert compare(spec())[0].not_replayed == "its optimiser or its penalty is given the learning rate as a number"
    monkeypatch.setattr(Optimisation, "recordable", True)
    with pytest.raises(AssertionError):
        compare(spec())


class Random(nn.Module):
    """A network that draws from torch's own generator."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.drop(x))
        return logits


@pytest.mark.slow
def test_what_cannot_be_replayed_is_trained_without_and_says_why() -> None:
    early_exit, _ = compare(spec(attack=Pgd(steps=2, norm="l2"), eps=0.5))
    assert early_exit.replayed == 0
    assert early_exit.not_replayed is not None
    assert early_exit.not_replayed.startswith("Python waits for")
    counted, _ = compare(spec(weights=Rated(sparsity=0.6)))
    assert (counted.replayed, counted.not_replayed) == (0, "Python waits for tolist")
    following, _ = compare(spec(weights=Rated(sparsity=0.6), penalty_steps=1000))
    assert following.not_replayed == "its optimiser or its penalty is given the learning rate as a number"


def test_draws_from_torchs_own_generator_are_not_replayed() -> None:
    torch.manual_seed(3)
    plain = run(spec(loss=Natural()), None, Random())
    torch.manual_seed(3)
    epochs = run(spec(loss=Natural()), Tape(), Random())
    assert same(plain[-1][1], epochs[-1][1])
    assert epochs[-1][0].not_replayed == "it draws from torch's own generator"


def test_a_step_that_cannot_be_recorded_is_trained_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Tape, work: Any) -> Any:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(Tape, "record", refuse)
    last, _ = compare(spec())
    assert (last.replayed, last.not_replayed) == (0, "operation not permitted")


def test_a_resumed_training_equals_one_that_is_replayed() -> None:
    described = spec(**EVERYTHING)
    whole = run(described, Tape())
    resumed = run(described, Tape(), resume=(2, whole[1][2]))
    assert same(resumed[-1][1], whole[-1][1])
    assert resumed[-1][0].replayed < whole[-1][0].replayed


GIVEN = Given(Natural(), Pgd(), 0.1, {})


@pytest.mark.parametrize(
    ("draw", "why"),
    [
        (lambda known, x: torch.bernoulli(x, generator=known), "it draws from a distribution that it computes"),
        (lambda known, x: x + torch.rand(3, generator=torch.Generator()), "it draws from a generator of its own"),
    ],
)
def test_draws_that_cannot_be_made_outside_are_refused(draw: Any, why: str) -> None:
    known = torch.Generator()
    steps = Replayed(Tape(), 3, [known])

    def work(index: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        return draw(known, index / 3).sum(), torch.zeros(())

    for _ in range(cuda_graphs.WARMUPS):
        steps(work, torch.arange(3), GIVEN)
    assert steps.why_not == why


def test_draws_in_place_and_new_ones_go_on_where_the_last_step_ended() -> None:
    def work(index: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        noise = torch.empty(3).normal_(generator=known)
        return (index + noise).sum(), torch.randint(9, (), generator=known)

    known = torch.Generator().manual_seed(1)
    wanted = [work(torch.arange(3) + step, GIVEN) for step in range(8)]
    known.manual_seed(1)
    steps = Replayed(Tape(), 3, [known])
    for step, found in enumerate(wanted):
        assert [t.item() for t in steps(work, torch.arange(3) + step, GIVEN)] == [t.item() for t in found]
    assert steps.steps == 8 - cuda_graphs.WARMUPS


def test_what_waits_for_the_gpu_is_named_and_other_warnings_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: torch warns where Python waits, in these words."""
    stream, modes = MagicMock(), []
    for name, value in {"Stream": lambda device: stream, "current_stream": lambda device: stream}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    wrong: list[str] = []

    def work() -> None:
        with CudaGraphs(torch.device("cuda")).warming(wrong):
            warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
            warnings.warn("something else", stacklevel=1)

    with pytest.warns(UserWarning, match="something else") as passed:
        work()
    assert [str(warning.message) for warning in passed] == ["something else"]
    assert len(wrong) == 1
    assert wrong[0].startswith("Python waits for the GPU (test_cuda_graphs.py:")
    assert modes == ["warn", 0]


def test_graphs_are_for_small_networks_on_gpus_that_are_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(cuda_graphs, "CudaGraphs", lambda device: built.append(device) or "graphs")
    model, gpu = LeNet300().network((1, 28, 28), 10), torch.device("cuda")
    assert recorder_for(model, (1, 28, 28), 128, gpu) is None
    monkeypatch.setenv(cuda_graphs.ENABLED, "1")
    assert recorder_for(model, (1, 28, 28), 128, torch.device("cpu")) is None
    assert recorder_for(model, (1, 28, 28), 128, gpu) == "graphs"
    assert recorder_for(model, (1, 28, 28), 128 * 1000, gpu) is None
    assert built == [gpu]
