"""Trainings on a GPU: like those on a CPU up to rounding, resumed bit for bit, with and without CUDA graphs.

They have never run on one: none was at hand (docs/manual/gpus.md). On a CPU the same tests run with a stand-in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainables.engine.factories import EVERYTHING, KEY, data, end, network, phase, pruned, same
from tests.trainables.engine.tape import Tape
from tests.trainables.models.factories import SHAPE, small_state, trained_net
from trainables import models
from trainables.attacks.pgd import Pgd
from trainables.data.tensors import Split, TrainingData
from trainables.engine.cuda_graphs import ENABLED, CudaGraphs, Recorder
from trainables.engine.epoch import Epoch
from trainables.engine.train import train
from trainables.losses.cross_entropy import Mix, Natural
from trainables.losses.mart import Mart
from trainables.losses.trades import Trades
from trainables.mask_updates.flying_bird import FlyingBird
from trainables.mask_updates.gradual import Gradual
from trainables.measure.evaluate import exact
from trainables.method.phases import Train
from trainables.models import MODELS
from trainables.optimisers.adam import Adam, AdamW
from trainables.optimisers.sgd import Sgd
from trainables.pruning import Pruning
from trainables.pruning.cut import prune
from trainables.reparametrisations.admm import Admm
from trainables.reparametrisations.learned import Rated, Scores
from trainables.reparametrisations.noise import Noise
from trainables.reparametrisations.twin import Twin
from trainables.store.state import State
from trainables.worker.job import release_memory

on_a_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
GPU = pytest.param("cuda", marks=on_a_gpu)
STAND_IN = pytest.param("cpu", id="stand-in", marks=pytest.mark.slow)
"""The same test on a CPU, of its own code rather than of a GPU."""

NETS = {"lenet300": (1, 28, 28), "lenet5": (1, 28, 28), "resnet20": (3, 32, 32)}
LARGE = {"resnet18": (3, 32, 32), "vgg16": (3, 32, 32), "wrn28_4": (3, 32, 32)}
PHASES: dict[str, dict[str, Any]] = {
    "natural": {"loss": Natural()},
    "madry": {"loss_and_all": True},
    "trades": {"loss": Trades()},
    "mart": {"loss": Mart()},
    "mix": {"loss": Mix()},
    "awp": {"awp": 0.01},
    "adam": {"optimiser": Adam(lr=1e-3, weight_decay=1e-3)},
    "adamw": {"optimiser": AdamW(lr=1e-3)},
    "l2": {"attack": Pgd(steps=2, norm="l2"), "eps": 0.5},
    "scores": {"weights": Scores(sparsity=0.6)},
    "rated": {"weights": Rated(sparsity=0.6)},
    "twin": {"weights": Twin(init="ones")},
    "noise": {"weights": Noise(in_training=False, in_attack="off")},
    "admm": {"weights": Admm(sparsity=0.5, update_epochs=1)},
    "gradual": {"rewiring": Gradual(sparsity=0.8)},
    "flying_bird": {"rewiring": FlyingBird(every=3)},
}
"""The phases of the recipes that train, by what is special about them."""


def described(weights: Any = None, rewiring: Any = None, loss_and_all: bool = False, **fields: Any) -> Train:
    extra = {"ema": 0.9, "label_smoothing": 0.1, "schedule": {"kind": "cosine", "warmup": 1.0}} if loss_and_all else {}
    calm = {"epochs": 2, "batch": 10, "attack": Pgd(steps=2, random_start=False), "optimiser": Sgd(lr=0.01)}
    found = phase(**{**calm, **extra, **fields})
    more = {"weights": weights, "rewiring": rewiring}
    return found.model_copy(update={name: value for name, value in more.items() if value is not None})


def on(device: str, images: TrainingData) -> TrainingData:
    train_on = images.train
    return replace(images, train=Split(train_on.x.to(device), train_on.y.to(device), train_on.scale))


def run(
    spec: Train, device: str, model: nn.Module, images: TrainingData, graph: Recorder | None = None, **options: Any
) -> Iterator[Epoch]:
    begin = pruned(State.of(model)).to(device)
    return train(model, begin, spec, on(device, images), key=KEY, device=device, recorder=graph, **options)


def recorder(device: str) -> Recorder:
    return CudaGraphs(torch.device(device)) if device == "cuda" else Tape()


def build(net: str, shape: tuple[int, int, int]) -> nn.Module:
    return models.build(MODELS[net](), shape=shape, classes=3, mean=(0.3,) * shape[0], std=(0.3,) * shape[0], seed=0)


def close(one: State, other: State, limit: float) -> None:
    """Compare the weights of two states by how far they are apart, as a share of the norm of each tensor."""
    for name, weights in one.params.items():
        apart = (weights.cpu() - other.params[name].cpu()).norm() / weights.norm().cpu().clamp_min(1e-3)
        assert float(apart) <= limit, (name, float(apart))


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's fastest algorithms may add gradients in any order."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    # What is compared to a graph must be none.
    monkeypatch.delenv(ENABLED, raising=False)


@pytest.mark.parametrize("device", [GPU, STAND_IN])
@pytest.mark.parametrize("name", PHASES)
def test_a_phase_on_a_gpu_agrees_with_the_cpu_within_rounding(name: str, device: str) -> None:
    """Two epochs of a few steps, in float32 without TF32 and without draws: rounding has not grown to much yet.

    The order of images is drawn, and other on a GPU, so batches have all images.
    """
    spec = described(**{**PHASES[name], "batch": 60, "epochs": 6})
    with exact(torch.device(device)):
        here, there = (end(run(spec, where, network(), data())) for where in ("cpu", device))
    assert abs(here.loss - there.loss) <= 1e-3 * abs(here.loss)
    close(here.state(), there.state(), 1e-2)


@pytest.mark.parametrize("device", [GPU, STAND_IN])
@pytest.mark.parametrize("net", [*NETS, *(pytest.param(net, marks=pytest.mark.slow) for net in LARGE)])
def test_a_network_on_a_gpu_agrees_with_the_cpu_within_rounding(net: str, device: str) -> None:
    shape = {**NETS, **LARGE}[net]
    images = data(24, shape)
    spec = described(batch=24, epochs=2)
    with exact(torch.device(device)):
        here, there = (end(run(spec, where, build(net, shape), images)) for where in ("cpu", device))
    close(here.state(), there.state(), 1e-2)


@pytest.mark.parametrize("device", [GPU, STAND_IN])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["madry", "trades", "awp", "adam", "twin", "gradual"])
def test_a_training_on_a_gpu_resumes_bit_for_bit(name: str, precision: str, device: str) -> None:
    spec = described(**{**PHASES[name], "precision": precision, "epochs": 4, **EVERYTHING})
    whole = end(run(spec, device, network(), data())).state()
    first = next(run(spec, device, network(), data())).checkpoint()
    assert same(end(run(spec, device, network(), data(), resume=(1, first))).state(), whole)


@pytest.mark.parametrize("device", [GPU, STAND_IN])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "name", ["natural", "madry", "trades", "mart", "awp", "adam", "adamw", "twin", "noise", "admm"]
)
def test_steps_replayed_from_a_graph_equal_those_without_one(name: str, precision: str, device: str) -> None:
    spec = described(**{"precision": precision, "epochs": 3, "batch": 9, "crop": 1, "flip": True, **PHASES[name]})
    eager = end(run(spec, device, network(), data()))
    replayed = end(run(spec, device, network(), data(), recorder(device)))
    assert (replayed.not_replayed, replayed.replayed > 0) == (None, True)
    assert replayed.loss == eager.loss
    assert same(replayed.state(), eager.state())


@pytest.mark.parametrize("device", [GPU, STAND_IN])
def test_without_pruned_filters_a_training_on_a_gpu_agrees_resumes_and_replays(device: str) -> None:
    begin = small_state(trained_net("lenet5", 0), "filter", 0.8)
    calm = described(batch=60, epochs=2).model_copy(update={"shrunk": True})
    lively = described(batch=9, epochs=3).model_copy(update={"shrunk": True})

    def run(spec: Train, where: str, graph: Recorder | None = None, **options: Any) -> Iterator[Epoch]:
        model, images = trained_net("lenet5", 1), on(where, data(60, SHAPE))
        return train(model, begin.to(where), spec, images, key=KEY, device=where, recorder=graph, **options)

    with exact(torch.device(device)):
        here, there = (end(run(calm, where)) for where in ("cpu", device))
    assert there.size.startswith("without pruned filters")
    close(here.state(), there.state(), 1e-2)
    whole = end(run(lively, device)).state()
    assert same(end(run(lively, device, resume=(1, next(run(lively, device)).checkpoint()))).state(), whole)
    replayed = end(run(lively, device, recorder(device)))
    assert (replayed.not_replayed, replayed.replayed > 0) == (None, True)
    assert same(replayed.state(), whole)


@pytest.mark.parametrize("device", [GPU, STAND_IN])
@pytest.mark.parametrize("name", ["l2", "rated"])
def test_what_a_graph_cannot_hold_is_trained_without_and_the_gpu_goes_on(name: str, device: str) -> None:
    spec = described(**{**PHASES[name], "epochs": 3})
    eager = end(run(spec, device, network(), data()))
    for _ in range(2):
        refused = end(run(spec, device, network(), data(), recorder(device)))
        assert refused.not_replayed is not None
        assert same(refused.state(), eager.state())
    ordinary = described(epochs=3)
    assert end(run(ordinary, device, network(), data(), recorder(device))).replayed > 0


@pytest.mark.parametrize("device", [GPU, STAND_IN])
@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_equal_scores_cut_the_same_weights_on_both_devices(scope: Any, device: str) -> None:
    """All magnitudes are one of four numbers, so that most cuts are ties."""
    state = State.of(build("lenet5", NETS["lenet5"]))
    draws = torch.Generator().manual_seed(0)
    tied = {name: (torch.randint(4, p.shape, generator=draws) + 1) / 8 for name, p in state.params.items()}
    state = State(tied, state.buffers, state.masks)
    for sparsity in (0.3, 0.5, 0.95):
        cuts = []
        for where in ("cpu", device):
            generator = torch.Generator(where).manual_seed(0)
            cuts.append(prune(Pruning(scope=scope), sparsity, state.to(torch.device(where)), generator))
        assert all(torch.equal(mask, cuts[1].masks[name].cpu()) for name, mask in cuts[0].masks.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_a_gpu_has_its_memory_back_between_trials(graph: bool) -> None:
    shape = NETS["resnet20"]
    left = []
    for _ in range(4):
        model = build("resnet20", shape)
        epochs = run(described(epochs=3), "cuda", model, data(60, shape), recorder("cuda") if graph else None)
        assert (end(epochs).replayed > 0) == graph
        del model, epochs
        release_memory()
        left.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    # What the first one leaves is of libraries, such as cuBLAS's workspace.
    assert left[1] == left[2] == left[3]
