"""What every regulariser must do."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from trainables.core.spec import plain
from trainables.method.training import Training
from trainables.regularisers import REGULARISERS
from trainables.regularisers.base import Regulariser

FORMATS = [torch.contiguous_format, torch.channels_last]


def weights(memory: torch.memory_format = torch.contiguous_format, scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    conv = torch.randn(4, 3, 3, 3, generator=generator).contiguous(memory_format=memory)
    linear = torch.randn(5, 8, generator=generator)
    return {"conv": (conv * scale).requires_grad_(), "linear": (linear * scale).requires_grad_()}


class RegulariserKit:
    """Tests of a regulariser, whose weight must be above 0."""

    scale_free = False
    """Whether the penalty is to depend on the weights' proportions alone, not on their scale."""

    @pytest.fixture
    def regulariser(self) -> Regulariser:
        """Return the regulariser to test."""
        raise NotImplementedError

    def test_is_a_scalar_without_its_weight(self, regulariser: Regulariser) -> None:
        penalty = regulariser.penalty(weights())
        assert penalty.dim() == 0
        assert penalty > 0
        heavier = regulariser.model_copy(update={"weight": 3.0})
        assert torch.equal(heavier.penalty(weights()), penalty)

    def test_memory_format_does_not_matter(self, regulariser: Regulariser) -> None:
        torch.testing.assert_close(*(regulariser.penalty(weights(memory)) for memory in FORMATS))

    def test_grows_with_the_weights_and_vanishes_without_them(self, regulariser: Regulariser) -> None:
        larger, penalty = regulariser.penalty(weights(scale=2.0)), regulariser.penalty(weights())
        if self.scale_free:
            torch.testing.assert_close(larger, penalty)
        else:
            assert larger > penalty
        assert regulariser.penalty(weights(scale=0.0)) == 0

    def test_step_against_the_gradient_shrinks_the_penalty(self, regulariser: Regulariser) -> None:
        now = weights()
        before = regulariser.penalty(now)
        gradients = torch.autograd.grad(before, list(now.values()))
        moved = {name: w - 1e-3 * g for (name, w), g in zip(now.items(), gradients, strict=True)}
        assert regulariser.penalty(moved) < before

    def test_gradient_is_finite_where_filters_are_zero(self, regulariser: Regulariser) -> None:
        now = weights()
        with torch.no_grad():
            now["conv"][1] = 0
            now["linear"][:, 2] = 0
            now["linear"][0] = 0
        gradients = torch.autograd.grad(regulariser.penalty(now), list(now.values()))
        assert all(bool(g.isfinite().all()) for g in gradients)
        assert bool((gradients[0][1] == 0).all())

    def test_is_written_by_its_kind(self, regulariser: Regulariser) -> None:
        training = Training(regularisers={regulariser.kind: 0.1})
        assert training.regularisers == {regulariser.kind: regulariser}
        assert REGULARISERS.parse(json.loads(json.dumps(plain(regulariser)))) == regulariser
