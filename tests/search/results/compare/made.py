"""Studies with given fronts, for comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.results.study import Study
from tests.search import factories
from tests.search.confirmations import hexed

Given = tuple[float, Sequence[bool] | np.ndarray]
"""A point: sparsity, and whether each example stands."""


def made(root: Path, name: str, points: Sequence[Given], **changes: Any) -> Study:
    """A study with one trial for each point, whose networks are correct on all clean examples."""
    spec = factories.study_spec(**{"name": name, "constraints": {}, **changes})
    records = factories.make_study(root / name, 0, spec)
    for number, (sparsity, verdicts) in enumerate(points):
        trial = factories.trial(number, spec)
        records.issue(trial)
        found = factories.point(
            robust_accuracy=float(np.mean(verdicts)),
            clean_accuracy=1.0,
            sparsity=sparsity,
            examples=len(verdicts),
            verdicts=hexed(verdicts),
            **_last(trial, spec),
        )
        records.write_outcome(factories.outcome(number, [found]))
    return Study(records)


def _last(trial: Any, spec: Any) -> dict[str, Any]:
    step = factories.measurements(trial, spec)[0]
    return {"key": step.key, "stage": step.parent, "eps": float(spec.protocol.eps), "eps_text": spec.protocol.eps.text}


def standing(correct: int, examples: int = 200, first: int = 0) -> np.ndarray:
    """So many examples stand, from `first` on."""
    found = np.zeros(examples, dtype=bool)
    found[np.arange(first, first + correct) % examples] = True
    return found
