"""Weights by layer, read without torch: as many as the state itself counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainables.store.stages import Stages
from trainables.store.state import State, pack
from trainables.store.storage import Storage
from trainables.store.weights_by_layer import LayerWeights, weights_by_layer


def state(dtype: torch.dtype) -> State:
    """Two layers in an order that is not that of their names, with zeros that no mask prunes, and a masked vector."""
    second = torch.tensor([[1.0, -0.0, 0.0], [2.0, -3.0, 4.0]], dtype=dtype)
    first = torch.eye(4, dtype=dtype).reshape(4, 4, 1, 1)
    masks = {"z.weight": torch.ones(4, 4, 1, 1, dtype=torch.bool), "a.weight": second != 0, "z.bias": torch.ones(4) > 0}
    return State({"z.weight": first, "z.bias": torch.zeros(4, dtype=dtype), "a.weight": second}, {}, masks)


def packed(of: State) -> bytes:
    return pack({"params": of.params, "buffers": of.buffers, "masks": of.masks})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_they_are_counted_in_the_weights_in_order_of_definition(dtype: torch.dtype) -> None:
    of = state(dtype)
    found = weights_by_layer(packed(of))
    assert found == (LayerWeights("z.weight", 4, 16), LayerWeights("a.weight", 4, 6))
    assert sum(layer.nonzero for layer in found) == of.nonzero()
    assert sum(layer.size for layer in found) == of.size()


def test_what_is_no_such_file_has_none() -> None:
    content = packed(state(torch.float32))
    assert weights_by_layer(content[:-8]) is None
    assert weights_by_layer(b"") is None
    assert weights_by_layer(b"\x08\0\0\0\0\0\0\0[1, 2]  ") is None
    assert weights_by_layer(content.replace(b"F32", b"I99")) is None


def test_a_stage_has_them_until_it_is_damaged(tmp_path: Path) -> None:
    stages = Stages(Storage(str(tmp_path)))
    assert stages.weights_by_layer("key") is None
    stages.save("key", state(torch.float32), epochs=1, seconds=1.0, study="s", trial=0)
    assert stages.weights_by_layer("key") == weights_by_layer(packed(state(torch.float32)))
    (tmp_path / "stages" / "key" / "state.safetensors").write_bytes(b"x")
    assert stages.weights_by_layer("key") is None


@pytest.mark.slow
def test_torch_is_not_loaded() -> None:
    code = "import sys, trainables.store.weights_by_layer; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
