"""What a well-formed measurement cannot say: numbers that contradict each other."""

from __future__ import annotations

from datetime import datetime

from trainables.store.records import PartialMeasurement, Point

_ROUNDING = 1e-9
"""How far a number may be from the one that follows from the counts beside it."""


def contradiction(measured: Point | PartialMeasurement) -> str | None:
    """Return what contradicts itself in a measurement, None where nothing does."""
    counted = _of_weights(measured)
    return counted or (_of_point(measured) if isinstance(measured, Point) else _of_partial(measured))


def _of_weights(measured: Point | PartialMeasurement) -> str | None:
    if measured.nonzero > measured.prunable:
        return "more weights are nonzero than there are"
    if abs(measured.sparsity - (1 - measured.nonzero / measured.prunable)) > _ROUNDING:
        return f"sparsity {measured.sparsity:g}, but {measured.nonzero} of {measured.prunable} weights are not 0"
    dense, effective = measured.macs_dense, measured.macs_effective
    if dense is not None and effective is not None and effective > dense:
        return "more multiply-accumulates are effective than there are"
    return None


def _of_point(point: Point) -> str | None:
    if max(point.robust_correct, point.clean_correct) > point.examples:
        return "more examples are correct than there are"
    if point.robust_correct > point.clean_correct:  # An attack starts from a correct image.
        return "more examples are correct under attack than without"
    for name, count in (("robust_accuracy", point.robust_correct), ("clean_accuracy", point.clean_correct)):
        given = getattr(point, name)
        if abs(given - count / point.examples) > _ROUNDING:
            return f"{name} {given:g}, but {count} of {point.examples} examples are correct"
    if (point.status == "ok") != (not point.flags):
        return f"status {point.status}, but {len(point.flags)} flags"
    return _of_verdicts(point) or times_fault(point.started, point.finished)


def _of_verdicts(point: Point) -> str | None:
    """Compare the bits of the verdicts with the counts; points of tests alone have none."""
    if not point.verdicts:
        return None
    try:
        packed = bytes.fromhex(point.verdicts)
    except ValueError:
        return "its verdicts are not hexadecimal text"
    if len(packed) != -(-point.examples // 8):
        return f"verdicts of {8 * len(packed)} examples, but there are {point.examples}"
    bits = int.from_bytes(packed)
    if bits & ((1 << (8 * len(packed) - point.examples)) - 1):
        return "verdicts on more examples than there are"
    if bits.bit_count() != point.robust_correct:
        return f"{bits.bit_count()} verdicts are correct, but robust_correct is {point.robust_correct}"
    return None


def _of_partial(partial: PartialMeasurement) -> str | None:
    if partial.robust_accuracy > partial.clean_accuracy:
        return "more examples are correct under attack than without"
    return None


def times_fault(started: str, finished: str) -> str | None:
    """Return what is wrong with the times of a record; a clock that was set back is not a fault."""
    try:
        if any(datetime.fromisoformat(time).tzinfo is None for time in (started, finished)):
            return "a time has no time zone"
    except ValueError:
        return "a time is not in ISO 8601"
    return None
