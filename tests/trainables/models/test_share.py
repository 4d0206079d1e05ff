"""The share of a network's parameters that can be pruned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.models.share import Share, sentence, weights_outside


def test_each_tensor_is_counted_once_and_the_largest_others_are_named() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Embedding(96, 4))
    net[1].weight = net[0].weight  # type: ignore[assignment]
    share = Share.of("mine", net)
    assert share == Share("mine", 16, 16 + 2 * 4 + 384, {"2.weight": 384, "0.bias": 4, "1.bias": 4}, 384)
    assert Share.from_plain(share.plain()) == share
    assert str(share) == (
        "mine: 16 of 408 parameters (3.9 %) are prunable; sparsity counts those alone, and the largest others are "
        "2.weight (384), 0.bias (4), 1.bias (4); 384 weights (96.0 %) are outside prunable layers"
    )


class Odd(nn.Module):
    """A dense matrix in a buffer, a bare parameter, a prunable layer, and what is not a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.ones(64, 128))
        self.register_buffer("index", torch.arange(128))
        self.gain = nn.Parameter(torch.ones(128))
        self.norm = nn.BatchNorm1d(128)
        self.head = nn.Linear(128, 10)


def test_weights_in_buffers_and_bare_parameters_are_counted_and_statistics_and_biases_are_not() -> None:
    assert weights_outside(Odd()) == {"matrix": 8192, "gain": 128}
    assert "8,320 weights (86.7 %) are outside prunable layers" in str(Share.of("odd", Odd()))
    assert "matrix (8,192)" in str(Share.of("odd", Odd()))


def test_attention_and_recurrent_layers_are_prunable_and_weights_computed_from_others_are_outside() -> None:
    assert weights_outside(nn.MultiheadAttention(8, 2)) == {}
    assert weights_outside(nn.LSTM(4, 8, num_layers=2, bidirectional=True, proj_size=3)) == {}
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    assert sum(weights_outside(normed).values()) == 12 + 3
    assert weights_outside(nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))) == {}


@pytest.mark.parametrize(
    ("prunable", "parameters", "percent"), [(266_200, 266_610, "99.8"), (99_999, 100_000, "99.9"), (5, 5, "100.0")]
)
def test_a_part_is_never_rounded_to_the_whole(prunable: int, parameters: int, percent: str) -> None:
    assert sentence(prunable, parameters) == f"{prunable:,} of {parameters:,} parameters ({percent} %) are prunable"


def test_a_network_that_is_prunable_for_the_most_part_has_no_more_to_say() -> None:
    assert str(Share("lenet300", 266_200, 266_610, {"1.bias": 300})) == (
        "lenet300: 266,200 of 266,610 parameters (99.8 %) are prunable"
    )
