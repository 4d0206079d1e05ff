"""Networks that look trained, and small ones cut out of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainables import models
from trainables.data.tensors import Split, TrainingData
from trainables.models import MODELS
from trainables.pruning.cut import prune
from trainables.pruning.network import Network
from trainables.recipes.wang2020 import PRUNINGS
from trainables.store.state import State

SHAPE = (2, 16, 16)


def trained_net(model: Any, seed: int) -> nn.Module:
    """Build a network that looks trained: no statistic or bias is at its initial value."""
    net = models.build(MODELS.parse(model), shape=SHAPE, classes=3, mean=(0.5, 0.5), std=(0.3, 0.2), seed=seed)
    if seed:
        return net
    draws = torch.Generator().manual_seed(2)
    for name, tensor in net.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.3, generator=draws)
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=draws)
    return net


def small_state(net: nn.Module, source: str, sparsity: float = 0.6) -> State:
    nothing = Split(torch.empty(0, *SHAPE), torch.empty(0), 1.0)
    data = TrainingData(nothing, nothing, 3, SHAPE, (0.5, 0.5), (0.3, 0.2), "f", "s")
    pruning = PRUNINGS[source]  # type: ignore[index]
    draws = torch.Generator().manual_seed(0)
    return prune(pruning, sparsity, State.of(net), draws, lambda s, g: Network(net, s, data, g, lambda seed: net))


class Rows(nn.Module):
    """Attention and a recurrent layer on the rows of an image (1, 8, 8), for 3 classes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.rows = nn.LSTM(8, 6, batch_first=True)
        self.hidden, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x[:, 0]
        seen, _ = self.attention(rows, rows, rows, need_weights=False)
        states, _ = self.rows(seen + rows)
        logits: torch.Tensor = self.head(torch.relu(self.hidden(states[:, -1])))
        return logits
