from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.models.activations import TopK, activity, recorded

KINDS = [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.PReLU(), nn.ELU(), nn.GELU(), nn.SiLU(), nn.Mish(), nn.Hardswish()]


@pytest.mark.parametrize("layer", [*KINDS, nn.Softplus(), nn.Tanh(), TopK(2)], ids=lambda each: type(each).__name__)
def test_outputs_of_activation_layers_are_recorded_in_order(layer: nn.Module) -> None:
    net = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 5), layer, nn.Sigmoid())
    x = torch.randn(6, 3)
    with torch.no_grad():
        with recorded(net) as outputs:
            net(x)
        first = layer(net[0](x))
        expected = [first, layer(net[2](first))]
    torch.testing.assert_close(outputs, expected)
    assert float(activity(outputs)) == pytest.approx(sum(float(each.abs().sum()) for each in expected) / 6, rel=1e-6)
    with recorded(net):
        pass
    net(x)
    assert len(outputs) == 2
