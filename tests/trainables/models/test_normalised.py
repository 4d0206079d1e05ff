"""Recurrent networks, which cuDNN differentiates in training mode alone, and attacks differentiate in eval mode."""

from __future__ import annotations

import copy
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from trainables.models.normalised import Normalised


class Rows(nn.Module):
    """A recurrent layer over the rows of an image; notes whether a pass may use cuDNN."""

    def __init__(self, layer: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer, self.last = layer(8, 6, batch_first=True), nn.Linear(6, 10)  # type: ignore[arg-type]
        self.cudnn: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.cudnn = torch.backends.cudnn.enabled
        return cast(Tensor, self.last(self.layer(x[:, 0])[0][:, -1]))


@pytest.mark.parametrize(
    ("training", "gradients", "cudnn"), [(True, True, True), (False, True, False), (False, False, True)]
)
def test_cudnn_is_off_where_a_recurrent_network_in_eval_mode_is_differentiated(
    training: bool, gradients: bool, cudnn: bool
) -> None:
    net = copy.deepcopy(Normalised(Rows(nn.GRU), None)).train(training)
    with torch.set_grad_enabled(gradients):
        net(torch.zeros(2, 1, 8, 8))
    assert cast(Rows, net.net).cudnn is cudnn
    cast(Rows, net.net).layer.eval()
    net(torch.zeros(2, 1, 8, 8))
    assert cast(Rows, net.net).cudnn is False
    assert torch.backends.cudnn.enabled


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_an_attack_has_gradients_of_a_recurrent_network_on_a_gpu(layer: type[nn.RNNBase]) -> None:
    net = Normalised(Rows(layer), None).eval()
    x = torch.rand(4, 1, 8, 8)
    found = []
    for device in ("cpu", "cuda"):
        images = x.detach().to(device).requires_grad_()
        net.to(device)(images).logsumexp(dim=1).sum().backward()
        assert images.grad is not None
        found.append(images.grad.cpu())
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
