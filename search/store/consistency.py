"""What no record of a trial can say, however well-formed it is."""

from __future__ import annotations

import math
import re
from typing import Any

from trainables.store.records import LARGEST, Outcome, TrialRecord

_DIGEST = re.compile("[0-9a-f]{64}")


def inconsistency(record: TrialRecord | Outcome, number: int) -> str | None:
    """Return what is impossible in a well-formed record of trial `number`, None where nothing is."""
    if record.number != number:
        return f"it is the record of trial {str(record.number)[:20]}"
    if reason := _too_large(record.params):
        return reason
    if isinstance(record, TrialRecord):
        return None if all(map(_DIGEST.fullmatch, record.keys)) else "a key is no sha256 digest"
    measures = [point.measure for point in record.points]
    if len(set(measures)) != len(measures):
        return "it has a measurement twice"
    if record.state == "complete" and not record.points:
        return "it is complete without a point"
    for point in record.points:
        if max(point.robust_correct, point.clean_correct) > point.examples:
            return f"point {point.measure}: more examples are correct than there are"
        if point.nonzero > point.prunable:
            return f"point {point.measure}: more weights are nonzero than there are"
        if reason := _too_large(point.stands_for):
            return f"point {point.measure}: {reason}"
    for rung in record.rungs:
        if rung.nonzero > rung.prunable:
            return f"the partial measurement after {rung.resource} epochs counts more weights than there are"
    return None


def _too_large(value: Any) -> str | None:
    """Refuse whole numbers that no table can hold, and NaN or infinities among free-form values."""
    if isinstance(value, dict):
        return next((reason for item in value.values() if (reason := _too_large(item))), None)
    if isinstance(value, (list, tuple)):
        return next((reason for item in value if (reason := _too_large(item))), None)
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a whole number is too large"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number is not finite"
    return None
