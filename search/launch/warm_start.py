"""Warm start: a new study observes the points of other studies in the same storage before its first trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from search import objectives
from search.files.messages import counted
from search.space.parameters import standing_for
from search.store.catalogue import study_storage
from search.store.records import Records
from search.store.warm_start_points import WarmStartPoint, WarmStartPoints, copied
from search.study.inverse import params_of
from search.study.spec import StudySpec
from trainables.core.errors import SpecError
from trainables.core.spec import plain
from trainables.store.records import Point, TrialRecord
from trainables.store.storage import Storage


def check(spec: StudySpec, root: Storage, data_hash: str | None = None) -> None:
    """Refuse studies whose points cannot be compared; `data_hash` is that of this study's data, once known.

    Raises:
        SpecError: a study does not exist, or measures something else.
        StorageError: its records cannot be read.
    """
    for index, other in enumerate(spec.warm_start):
        if other == spec.name:
            raise SpecError(f"warm_start[{index}]: '{other}' is this study itself")
        try:
            records = Records.open(study_storage(root, other))
        except SpecError as error:
            raise SpecError(f"warm_start[{index}]: {error}") from None
        if differing := list(_differing(spec, records, data_hash)):
            listed = "\n".join(f"  {line}" for line in differing)
            raise SpecError(f"warm_start[{index}]: points of '{other}' cannot be compared with this study's:\n{listed}")


def _differing(spec: StudySpec, records: Records, data_hash: str | None) -> Iterator[str]:
    theirs = records.spec
    for part in ("objectives", "protocol", "data"):
        there, here = (plain(getattr(study, part), hashed=True) for study in (theirs, spec))
        for name in dict.fromkeys((*there, *here)):
            if there.get(name) != here.get(name):
                yield f"{part}.{name}: {there.get(name)!r} there, {here.get(name)!r} here"
    if data_hash is not None and records.fingerprint.data_hash != data_hash:
        yield f"the data: fingerprint {records.fingerprint.data_hash[:12]} there, {data_hash[:12]} here"


def gather(spec: StudySpec, root: Storage, data_hash: str) -> WarmStartPoints:
    """Return the valid points of the studies to start from that this study's space could have produced.

    A network that several trials share counts once.

    Raises:
        SpecError, StorageError: as `check`.
    """
    check(spec, root, data_hash)
    found: dict[str, WarmStartPoint] = {}
    stages: dict[str, None] = {}
    for other in spec.warm_start:
        for record, outcome in Records.open(study_storage(root, other)).trials():
            measured = [point.key for point in outcome.points] if outcome else []
            for point in outcome.points if outcome else ():
                if point.epoch is None and point.key not in found and objectives.trusted(point, spec):
                    params = params_of(spec, *_stands_for(record, point))
                    if params is not None:
                        found[point.key] = copied(other, record.number, params, point)
                        before = record.keys[: record.keys.index(point.key)] if point.key in record.keys else ()
                        stages.update(dict.fromkeys(key for key in before if key not in measured))
    return WarmStartPoints(points=tuple(found.values()), stages=tuple(stages))


def _stands_for(record: TrialRecord, point: Point) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the trial of which a point would have been the last, and its parameters."""
    recipe = {**record.spec.get("recipe", {}), **point.stands_for}
    return {**record.spec, "recipe": recipe}, standing_for(record.params, point.stands_for)


def summary(transferred: WarmStartPoints, spec: StudySpec) -> str:
    """Return in a line how many points come from which study."""
    counts = Counter(point.study for point in transferred.points)
    return "warm start: " + ", ".join(f"{counted(counts[name], 'point')} of {name}" for name in spec.warm_start)
