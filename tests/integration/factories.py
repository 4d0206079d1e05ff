"""A study that runs in seconds, and waiting for what it does."""

from __future__ import annotations

import time
from collections.abc import Callable

TINY = """
name: tiny
data: digits
model: {kind: lenet300, hidden: [16]}
recipe:
  kind: imp
  rate: 0.5
  epochs: 4
  rewind: init
  train: {batch: 256, eps: 0.1, optimiser: adam, attack: {kind: pgd, steps: 1}, precision: fp32}
space:
  recipe.sparsity: {kind: float, low: 0.0, high: 0.9}
  recipe.train.eps: {kind: categorical, choices: [0.05, 0.1]}
protocol: {eps: 0.1, examples: 50, attack: {kind: pgd, steps: 2}}
sampler: {kind: tpe, n_startup_trials: 3}
budget: {trials: 4}
"""


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Poll until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
