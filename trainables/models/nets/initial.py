"""Initial weights as the papers of the built-in nets draw them."""

from __future__ import annotations

from torch import nn


def glorot(net: nn.Module, *, uniform: bool = False) -> nn.Module:
    """Draw convolution and linear weights Glorot-normal or -uniform, zero their biases.

    Source: Glorot & Bengio 2010.
    """
    draw = nn.init.xavier_uniform_ if uniform else nn.init.xavier_normal_
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def he(net: nn.Module) -> nn.Module:
    """Draw convolution weights He-normal over the fan-out, zero their biases; linear layers keep torch's default.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net
