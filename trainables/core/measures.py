"""Names of the measures of a point, and the confidence interval of an accuracy."""

from __future__ import annotations

import math
from typing import Literal

ROBUST_ACCURACY = "robust_accuracy"
CLEAN_ACCURACY = "clean_accuracy"
SPARSITY = "sparsity"
NONZERO = "nonzero"
MACS_EFFECTIVE = "macs_effective"

Direction = Literal["maximise", "minimise"]
MEASURES: dict[str, Direction] = {
    ROBUST_ACCURACY: "maximise",
    CLEAN_ACCURACY: "maximise",
    SPARSITY: "maximise",
    NONZERO: "minimise",
    MACS_EFFECTIVE: "minimise",
}
"""What an objective or a constraint may be, with the better direction."""

KNOWN = (SPARSITY, NONZERO, MACS_EFFECTIVE)
"""Measures that do not depend on examples."""


def wilson(correct: int, examples: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, by default at 95 %.

    Raises:
        ValueError: `examples` is not positive or `correct` lies outside [0, examples].
    """
    if examples <= 0 or not 0 <= correct <= examples:
        raise ValueError(f"{correct} correct of {examples} examples is not a proportion")
    p = correct / examples
    centre = p + z * z / (2 * examples)
    spread = z * math.sqrt(p * (1 - p) / examples + z * z / (4 * examples * examples))
    scale = 1 + z * z / examples
    # At 0 or all correct the bound is exactly 0 or 1; rounding must not move it past them.
    low = 0.0 if correct == 0 else (centre - spread) / scale
    high = 1.0 if correct == examples else (centre + spread) / scale
    return low, high
