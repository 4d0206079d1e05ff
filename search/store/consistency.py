"""What no record of a trial can say, however well-formed it is: of itself, of its trial, and of its study."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.space.parameters import active
from search.study.spec import StudySpec
from trainables.core.errors import SpecError
from trainables.core.plugins import loaded
from trainables.core.spec import plain
from trainables.method.phases import Measure
from trainables.method.protocol import Protocol
from trainables.recipes.trial import KeyedPhase, TrialSpec, keyed_phases
from trainables.store.consistency import contradiction, times_fault
from trainables.store.records import LARGEST, Outcome, Point, TrialRecord

_DIGEST = re.compile("[0-9a-f]{64}")


def inconsistency(record: TrialRecord | Outcome, number: int) -> str | None:
    """Return what is impossible in a well-formed record of trial `number`, None where nothing is."""
    if record.number != number:
        return f"it is the record of trial {str(record.number)[:20]}"
    if reason := _too_large(record.params):
        return reason
    if isinstance(record, TrialRecord):
        if not all(map(_DIGEST.fullmatch, record.keys)):
            return "a key is not a sha256 digest"
        return times_fault(record.issued, record.issued)
    return _of_points(record) or _of_end(record)


def _of_points(outcome: Outcome) -> str | None:
    measures = [point.measure for point in outcome.points]
    if len(set(measures)) != len(measures):
        return "it has a measurement twice"
    if outcome.state == "complete" and measures != list(range(len(measures))):
        return f"its measurements are {', '.join(map(str, measures[:10]))}: one is missing, or out of order"
    for point in outcome.points:
        if reason := contradiction(point) or _too_large(point.stands_for):
            return f"point {point.measure}: {reason}"
    for rung in outcome.rungs:
        if reason := contradiction(rung):
            return f"the partial measurement after {rung.resource} epochs: {reason}"
    return None


def _of_end(outcome: Outcome) -> str | None:
    if outcome.state == "complete" and not outcome.points:
        return "it is complete without a point"
    if (outcome.state == "failed") != (outcome.failure is not None):
        return f"it is {outcome.state} {'without' if outcome.failure is None else 'with'} a failure"
    return times_fault(outcome.started, outcome.finished)


@dataclass(frozen=True)
class Expected:
    """What every record of a study has to say, as far as this process knows: `None` is not checked."""

    spec: StudySpec
    full: Mapping[str, Any]
    cheap: Mapping[str, Any] | None

    @classmethod
    def of(cls, spec: StudySpec) -> Expected:
        """Work out the fields of points from a study's protocol."""
        full = _protocol(spec.protocol)
        if spec.screening is None or full["attack"] is None:  # An attack of a plug-in that is not imported.
            return cls(spec, full, None)
        return cls(spec, full, _protocol(spec.protocol.cheaper(spec.screening.examples, spec.screening.steps)))

    def trial_fault(self, record: TrialRecord) -> str | None:
        """Return what in a trial's record is not of this study, or contradicts its own parameters."""
        if record.study != self.spec.name:
            return f"it is a record of the study '{record.study[:40]}'"
        if record.seed != record.spec.get("seed", record.seed):
            return f"seed {record.seed}, but the trial has {str(record.spec['seed'])[:20]}"
        for path, value in record.params.items():
            if path not in self.spec.space:
                return f"params.{path[:80]} is not searched"
            if not _same(found := _at(record.spec, path), value):
                return f"params.{path} is {value!r:.40}, but the trial has {found!r:.40}"
        return None

    def outcome_fault(self, record: TrialRecord, outcome: Outcome) -> str | None:
        """Return what in an outcome is not of the trial or of the study."""
        for path in record.params:
            if outcome.params and not _same(outcome.params.get(path), record.params[path]):
                return f"params.{path} is {outcome.params.get(path)!r:.40}, but {record.params[path]!r:.40} was issued"
        for point in outcome.points:
            if reason := self._point_fault(point):
                return f"point {point.measure}: {reason}"
        return None

    def _point_fault(self, point: Point) -> str | None:
        if point.tier == "confirmed":
            return "tier confirmed: a search confirms nothing"
        expected = self.full if point.tier == "search" else self.cheap
        if expected is None:
            return "tier screened, but the study does not screen" if self.spec.screening is None else None
        for name, value in expected.items():
            found = getattr(point, name)
            if value is None or found == value or (name == "examples" and point.tier == "screened" and found < value):
                continue
            return f"{name} {found!r:.40}, but the study measures with {value!r:.40}"
        return None


def unproven(spec: StudySpec, data_hash: str, trial: TrialRecord, outcome: Outcome | None) -> str | None:
    """Return what in a trial's records does not follow from its parameters; None where all does.

    This expands the trial, which takes too long whenever a study is opened. Where plug-ins of the study are not
    imported, nothing can be said.
    """
    if not loaded(spec.plugins):
        return None
    try:
        described = TrialSpec.model_validate(trial.spec)
        # A space that was extended since asks for more parameters than the trial had.
        whole = active(spec.space, trial.params) == trial.params
        own = spec.trial(trial.params, trial.seed if trial.seed in spec.seeds else None) if whole else described
        chain = keyed_phases(described, data_hash)
    except (SpecError, ValueError) as error:
        return f"it is not a trial of this study: {str(error).partition(chr(10))[0][:200]}"
    for part in ("recipe", "model", "protocol", "seed"):
        if plain(getattr(own, part), hashed=True) != plain(getattr(described, part), hashed=True):
            return f"its {part} is not the one that its parameters give"
    if tuple(step.key for step in chain) != trial.keys:
        return "its keys are not those of its phases"
    return None if outcome is None or outcome.state != "complete" else _unproven_points(chain, outcome)


def _unproven_points(chain: tuple[KeyedPhase, ...], outcome: Outcome) -> str | None:
    measured = [step for step in chain if isinstance(step.phase, Measure)]
    if len(outcome.points) != len(measured):
        return f"it is complete with {len(outcome.points)} of {len(measured)} measurements"
    for point, step in zip(outcome.points, measured, strict=True):
        if point.stage != step.parent or (point.tier == "search" and point.key != step.key):
            return f"point {point.measure}: its keys are not those of the trial's measurement"
    return None


def _protocol(protocol: Protocol) -> dict[str, Any]:
    label: object = protocol.attack.label
    return {
        "attack": label if isinstance(label, str) else None,
        "norm": protocol.attack.norm,
        "eps": float(protocol.eps),
        "eps_text": protocol.eps.text,
        "split": "validation",
        "examples": protocol.examples,
    }


_MISSING: Any = object()


def _at(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data.get(part, _MISSING) if isinstance(data, dict) else _MISSING
    return data


def _same(found: Any, value: Any) -> bool:
    """Compare a field of a trial with the parameter that set it.

    A bare kind or a bare weight became a whole specification. A radius or a duration may be text in one and a number
    in the other.
    """
    if isinstance(found, dict):
        return value in (found, *found.values())
    mixed = isinstance(found, str) != isinstance(value, str) and _is_number(found) != _is_number(value)
    return bool(found == value) or mixed


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


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
