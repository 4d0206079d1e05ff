"""A study that runs in seconds, as the text of its file, and what a launch of it leaves on disk."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from search.files import yaml

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
FIELDS: dict[str, Any] = yaml.parse(TINY, "tiny.yaml").data
"""The same study as a mapping."""

EARLY = f"""{TINY.replace("choices: [0.05, 0.1]", "choices: [0, 0.02, 0.05, 0.1]")}
early_stopping: {{kind: moasha, grace: 1, eta: 2, max_rungs: 4, examples: 50, steps: 2}}
"""
"""The study with early stopping, which stops some of ten trials."""


def outcomes(study: Path) -> dict[str, bytes]:
    """Return the recorded outcomes of a study by number, to the last byte."""
    return {path.parent.name: path.read_bytes() for path in sorted(study.glob("trials/*/outcome.json"))}


def states(study: Path) -> Counter[str]:
    """Count the recorded outcomes by state."""
    return Counter(json.loads(content)["state"] for content in outcomes(study).values())


def params(study: Path) -> dict[str, Any]:
    """Return the parameters of the trials that were issued, by number."""
    return {p.parent.name: json.loads(p.read_bytes())["params"] for p in study.glob("trials/*/trial.json")}


def numbers(count: int) -> list[str]:
    """Return the names of the first `count` trials."""
    return [f"{number:05d}" for number in range(count)]


def conclusion(text: str) -> str:
    """Return the line that says how a command ended, after which it may only say what to do next."""
    return [line for line in text.strip().splitlines() if not line.startswith("next: ")][-1]
