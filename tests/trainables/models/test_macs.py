from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables import models
from trainables.models import MODELS, macs
from trainables.store.state import State


def dense(kind: str, shape: tuple[int, int, int]) -> int:
    channels = shape[0]
    model = models.build(
        MODELS.parse(kind), shape=shape, classes=10, mean=[0.5] * channels, std=[1.0] * channels, seed=0
    )
    return macs.dense(macs.count(model, shape))


def test_known_networks() -> None:
    assert dense("lenet300", (1, 28, 28)) == 784 * 300 + 300 * 100 + 100 * 10
    assert dense("lenet5", (1, 28, 28)) == 20 * 25 * 24**2 + 50 * 20 * 25 * 8**2 + 800 * 500 + 500 * 10
    assert dense("resnet18", (3, 32, 32)) == 555_422_720


class Mixed(nn.Module):
    """Every kind of layer that counts: grouped, strided, transposed, shared, unused, and linear over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(2, 4, 3, stride=2, groups=2)
        self.shared = nn.Conv2d(4, 4, 1)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2, bias=False)
        self.sequence = nn.Linear(3, 5)
        self.unused = nn.Linear(7, 7)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.shared(self.shared(self.grouped(x))))
        x = self.up(x).flatten(2).transpose(1, 2)
        return self.sequence(x).mean(1)


def test_counts_layer_by_layer_and_only_living_weights() -> None:
    model = Mixed().train()
    model.norm.eval()
    counts = macs.count(model, (2, 9, 9))
    # 9x9 becomes 4x4 under the strided convolution and 8x8 under the transposed one.
    assert counts == {
        "grouped.weight": (4 * 1 * 9 * 16, 16),
        "shared.weight": (4 * 4 * 2 * 16, 32),
        "up.weight": (4 * 3 * 4 * 16, 16),
        "sequence.weight": (3 * 5 * 64, 64),
    }
    assert model.training
    assert not model.norm.training
    weights = {name: torch.zeros_like(w) for name, w in State.of(model).params.items()}
    assert macs.effective(counts, weights) == 0
    weights["grouped.weight"][0, 0, 0, 0] = 1.0
    weights["sequence.weight"][:2] = 1.0
    assert macs.effective(counts, weights) == 16 + 2 * 3 * 64
    assert macs.effective(counts, {n: torch.ones_like(w) for n, w in weights.items()}) == macs.dense(counts)
