"""Programs: the same logits bit for bit from the weights beside them, or a reason."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.models.factories import SHAPE, small_state, trained_net
from trainables.core.errors import SpecError
from trainables.export import program
from trainables.export.shrunk import shrunk
from trainables.store.state import named_tensors


def reloaded(net: nn.Module) -> nn.Module:
    content = program.written(net, program.exported(net, SHAPE), named_tensors(net))
    found: nn.Module = torch.export.load(io.BytesIO(content)).module()
    return found


NETS = [{"kind": "lenet300", "active": 0.2}, "lenet5", pytest.param("resnet20", marks=pytest.mark.slow)]


@pytest.mark.slow
@pytest.mark.parametrize("model", NETS, ids=str)
def test_logits_and_input_gradients_are_equal_bit_for_bit(model: Any) -> None:
    net = trained_net(model, 0).eval()
    again = reloaded(net)
    for batch in (1, 2, 13):
        x = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(2), requires_grad=True)
        assert torch.equal(again(x), net(x))
        wanted, found = (torch.autograd.grad(each(x).square().sum(), x)[0] for each in (net, again))
        assert torch.equal(found, wanted)
        assert found.abs().sum() > 0


@pytest.mark.slow
def test_a_network_without_its_dead_filters_is_a_smaller_program() -> None:
    net = trained_net("conv4", 0).eval()
    small = shrunk(net, small_state(net, "filter"), SHAPE)
    x = torch.rand(3, *SHAPE)
    again = reloaded(small)
    assert torch.equal(again(x), small(x))
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in net.parameters())


class Tied(nn.Module):
    """Two layers with one weight, a recurrent layer, and a buffer that no file has."""

    def __init__(self) -> None:
        super().__init__()
        pixels = SHAPE[0] * SHAPE[1] * SHAPE[2]
        self.one, self.two = nn.Linear(pixels, pixels), nn.Linear(pixels, pixels)
        self.two.weight = self.one.weight
        self.read = nn.GRU(pixels, 3, batch_first=True)
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.read(self.two(self.one(x.flatten(1)).relu() * self.scale)[:, None])[0][:, 0]
        return found


class Branches(nn.Module):
    """A network whose path depends on its values."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SHAPE[0] * SHAPE[1] * SHAPE[2], 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits if float(logits.mean()) > 0 else -logits


class Noisy(Branches):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits + torch.rand_like(logits)


def test_tied_weights_and_temporary_buffers_are_written() -> None:
    net = Tied().eval()
    x = torch.rand(4, *SHAPE)
    assert torch.equal(reloaded(net)(x), net(x))


def test_what_cannot_be_exported_is_refused_in_one_line() -> None:
    with pytest.raises(SpecError, match=r"torch\.export cannot follow this network") as refused:
        program.exported(Branches().eval(), SHAPE)
    assert "\n" not in str(refused.value)


def test_a_program_with_other_logits_is_refused() -> None:
    net = Noisy().eval()
    with pytest.raises(SpecError, match="has other logits than the network"):
        program.written(net, program.exported(net, SHAPE), named_tensors(net))
