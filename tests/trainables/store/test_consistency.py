"""Measurements that contradict themselves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.search import factories
from trainables.measure.evaluate import pack_verdicts
from trainables.store.consistency import contradiction, times_fault

VERDICTS = {"examples": 10, "robust_correct": 3, "robust_accuracy": 0.3, "clean_correct": 9, "clean_accuracy": 0.9}


def changed(**changes: Any) -> str | None:
    return contradiction(factories.point(0).model_copy(update=changes))


def test_a_real_point_does_not_contradict_itself() -> None:
    import numpy as np

    assert changed() is None
    verdicts = np.array([True] * 3 + [False] * 7)
    assert changed(**VERDICTS, verdicts=pack_verdicts(verdicts)) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"robust_accuracy": 0.999}, "robust_accuracy 0.999, but 252 of 360 examples are correct"),
        ({"clean_accuracy": 0.2}, "clean_accuracy 0.2, but 324 of 360 examples are correct"),
        ({"sparsity": 0.99}, "sparsity 0.99, but"),
        ({"nonzero": 10**9}, "more weights are nonzero than there are"),
        ({"robust_correct": 361, "robust_accuracy": 1.0}, "more examples are correct than there are"),
        ({"robust_correct": 350, "robust_accuracy": 350 / 360}, "more examples are correct under attack than without"),
        ({"macs_dense": 10, "macs_effective": 11}, "more multiply-accumulates are effective than there are"),
        ({"status": "warn"}, "status warn, but 0 flags"),
        ({"flags": ("gradient_masking",)}, "status ok, but 1 flags"),
        ({**VERDICTS, "verdicts": "f000"}, "4 verdicts are correct, but robust_correct is 3"),
        ({**VERDICTS, "verdicts": "e001"}, "verdicts on more examples than there are"),
        ({**VERDICTS, "verdicts": "e0"}, "verdicts of 8 examples, but there are 10"),
        ({**VERDICTS, "verdicts": "zz00"}, "its verdicts are not hexadecimal text"),
        ({"started": "yesterday"}, "a time is not in ISO 8601"),
    ],
)
def test_a_contradiction_is_named(changes: dict[str, Any], reason: str) -> None:
    assert str(changed(**changes)).startswith(reason)


def test_times_have_a_zone() -> None:
    assert times_fault("2026-01-02T03:04:05", "2026-01-02T03:04:05+00:00") == "a time has no time zone"
