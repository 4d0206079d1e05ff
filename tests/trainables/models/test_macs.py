from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables import models
from trainables.models import MODELS, macs
from trainables.store.state import State, prunable


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


class Sequences(nn.Module):
    """Attention of both kinds, a transformer's layer, recurrent layers and a cell, on the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MultiheadAttention(8, 2, kdim=4, vdim=4, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.rows = nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.cell = nn.GRUCell(12, 5)
        self.query = nn.Parameter(torch.zeros(1, 3, 8))
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1).view(len(x), 7, 8)
        rows = self.layer(rows)
        pooled, _ = self.pool(self.query.expand(len(x), -1, -1), rows[..., :4], value=rows[..., 4:])
        states, _ = self.rows(torch.cat([rows, pooled], dim=1))
        last = x.new_zeros(len(x), 5)
        for step in states.unbind(1):
            last = self.cell(step, last)
        logits: Tensor = self.head(last)
        return logits


def test_attention_counts_its_positions_and_recurrent_layers_their_steps() -> None:
    model = Sequences()
    counts = macs.count(model, (1, 7, 8))
    assert set(counts) == set(prunable(model))
    times = {name: times for name, (_, times) in counts.items()}
    assert {times[f"layer.{name}"] for name in ("self_attn.in_proj_weight", "self_attn.out_proj.weight")} == {7}
    assert times["layer.linear1.weight"] == times["layer.linear2.weight"] == 7
    assert [times[f"pool.{name}_weight"] for name in ("q_proj", "k_proj", "v_proj")] == [3, 7, 7]
    assert times["pool.out_proj.weight"] == 3
    assert {times[name] for name in times if name.startswith(("rows.", "cell."))} == {10}
    assert counts["rows.weight_hh_l1_reverse"] == (4 * 6 * 6 * 10, 10)
    assert counts["cell.weight_ih"] == (3 * 5 * 12 * 10, 10)
    assert times["head.weight"] == 1
