"""What every model must do."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from trainables import models
from trainables.core.spec import plain
from trainables.export import saved
from trainables.models import MODELS, macs
from trainables.models.base import Model
from trainables.models.normalised import Normalised
from trainables.store.state import State, prunable

SHAPE = (3, 16, 16)
CLASSES = 7
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def built(spec: Model, seed: int = 3) -> Normalised:
    return models.build(spec, shape=SHAPE, classes=CLASSES, mean=MEAN, std=STD, seed=seed)


@lru_cache(maxsize=16)
def built_once(spec: str) -> Normalised:
    """Build the network of a spec, in JSON, for all tests of it; they change copies alone."""
    return built(MODELS.parse(json.loads(spec)))


def images(n: int = 2) -> torch.Tensor:
    return torch.rand((n, *SHAPE), generator=torch.Generator().manual_seed(0))


@dataclass
class Case:
    """A model spec and the network that it builds."""

    spec: Model
    model: Normalised

    def fresh(self) -> Normalised:
        return copy.deepcopy(self.model)


class ModelKit:
    """Tests of a model, on images of 3 x 16 x 16 pixels."""

    @pytest.fixture
    def spec(self) -> Model:
        """Return the model spec to test."""
        raise NotImplementedError

    @pytest.fixture
    def case(self, spec: Model) -> Case:
        return Case(spec, built_once(json.dumps(plain(spec))))

    def test_seed_decides_the_weights_and_global_generators_stay(self, case: Case) -> None:
        before = torch.get_rng_state()
        again, other = built(case.spec), built(case.spec, seed=4)
        assert torch.equal(torch.get_rng_state(), before)
        assert State.of(again).weights_sha256() == State.of(case.model).weights_sha256()
        name = prunable(case.model)[0]
        assert not torch.equal(other.get_parameter(name), case.model.get_parameter(name))

    def test_returns_finite_logits_in_both_memory_formats(self, case: Case) -> None:
        x = images()
        contiguous, channels_last = case.fresh().eval(), case.fresh().eval().to(memory_format=torch.channels_last)
        with torch.no_grad():
            one = contiguous(x)
            two = channels_last(x.contiguous(memory_format=torch.channels_last))
        assert one.shape == (2, CLASSES)
        assert one.isfinite().all()
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)

    def test_built_in_training_mode_and_every_parameter_learns(self, case: Case) -> None:
        model = case.fresh()
        assert all(module.training for module in model.modules())
        nn.functional.cross_entropy(model(images(4)), torch.tensor([0, 1, 2, 3])).backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in model.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients)
        assert gradients[0] is not None
        assert gradients[0].count_nonzero() > 0

    def test_normalises_pixels_in_front_of_the_net(self, case: Case) -> None:
        x, model = images(), case.fresh().eval()
        bare = built(case.spec.model_copy(update={"normalise": False})).eval()
        mean, std = torch.tensor(MEAN).reshape(1, 3, 1, 1), torch.tensor(STD).reshape(1, 3, 1, 1)
        with torch.no_grad():
            torch.testing.assert_close(model(x), bare((x - mean) / std))
        assert not [name for name, _ in bare.named_buffers() if "normalise" in name]
        assert {"normalise.mean", "normalise.std"} <= dict(model.named_buffers()).keys()

    def test_traces_with_fx_to_the_same_logits(self, case: Case) -> None:
        model = case.fresh().eval()
        traced = fx.symbolic_trace(model)
        with torch.no_grad():
            assert torch.equal(traced(images()), model(images()))

    def test_every_prunable_weight_is_used_and_counted(self, case: Case) -> None:
        model = case.fresh()
        counts = macs.count(model, SHAPE)
        weights = State.of(model).params
        assert set(counts) == set(prunable(model))
        assert all(dense == weights[name].numel() * positions for name, (dense, positions) in counts.items())
        assert all(module.training for module in model.modules())
        assert State.of(model).weights_sha256() == State.of(case.model).weights_sha256()

    def test_spec_survives_plain_data(self, case: Case) -> None:
        assert MODELS.parse(plain(case.spec)) == case.spec
        assert MODELS.parse(plain(case.spec, defaults=False)) == case.spec

    def test_saved_network_returns_with_the_same_logits(self, case: Case, tmp_path: Path) -> None:
        model = case.fresh().eval()
        card = {"model": plain(case.spec), "shape": SHAPE, "classes": CLASSES}
        loaded = saved.load(saved.save(tmp_path / "out", State.of(model), card))
        assert not loaded.training
        with torch.no_grad():
            assert torch.equal(loaded(images()), model(images()))
