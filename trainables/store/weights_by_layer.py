"""How many weights each layer of a stored network has left, read from its file without torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_MASKS, _PARAMS = "masks/", "params/"


@dataclass(frozen=True)
class LayerWeights:
    """The weight of one layer: how many of its numbers are not 0, and how many there are."""

    name: str
    nonzero: int
    size: int


def weights_by_layer(content: bytes) -> tuple[LayerWeights, ...] | None:
    """Return the prunable weights of a stage's file, in order of definition; None where it is not such a file.

    They are the prunable weights, which have a mask each; masks of vectors do not count.
    """
    try:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        names = json.loads(header.pop("__metadata__", {}).get("order", "null")) or list(header)
        body = memoryview(content)[8 + size :]
        if max(tensor["data_offsets"][1] for tensor in header.values()) != len(body):
            return None
        weights = [name.removeprefix(_MASKS) for name in names if name.startswith(_MASKS)]
        matrices = [name for name in weights if len(header[_PARAMS + name]["shape"]) > 1]
        return tuple(_layer(name, header[_PARAMS + name], body) for name in matrices)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _layer(name: str, tensor: dict[str, Any], body: memoryview) -> LayerWeights:
    """Count the numbers of a tensor that are neither 0 nor -0, by their bits.

    Raises:
        ValueError, TypeError, KeyError: the header is not that of the file.
    """
    width = _SIZES[str(tensor["dtype"])]
    start, end = tensor["data_offsets"]
    bits = np.frombuffer(body[start:end], dtype=f"<u{width}")
    if bits.size != math.prod(tensor["shape"]):
        raise ValueError(f"{name} is truncated")
    without_sign = bits & np.array((1 << (8 * width - 1)) - 1, dtype=bits.dtype)
    return LayerWeights(name, int(np.count_nonzero(without_sign)), int(bits.size))
