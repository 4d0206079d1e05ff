"""Repair a damaged study: set truncated records aside, rebuild what follows from the rest, remove leftovers.

No record is lost: a copy of each that is replaced stays beside it. Stages, measurements and saved epochs are dropped
where they are damaged: they can be computed again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from search.files.messages import counted
from search.store import check, driver_lock
from search.store.check import Fault
from search.store.default_storage import arguments
from search.store.records import Records, set_aside
from search.store.study_yaml import utc_now
from trainables.core.errors import ExitCode, SpecError, StorageError
from trainables.core.plugins import loaded
from trainables.core.spec import plain
from trainables.recipes.trial import keyed_phases
from trainables.store import paths
from trainables.store.records import Outcome, TrialRecord
from trainables.store.storage import Storage


@dataclass(frozen=True)
class Action:
    """One step of a repair: `what` is took over, set aside, rebuilt, dropped or removed."""

    what: str
    path: str
    message: str

    def plain(self) -> dict[str, Any]:
        """Return the action as JSON-able data."""
        return asdict(self)


@dataclass(frozen=True)
class Repaired:
    """The steps of a repair, and the faults that are left."""

    actions: tuple[Action, ...]
    left: tuple[Fault, ...]

    @property
    def summary(self) -> str:
        """What was done, in a line."""
        if not self.whole:
            return f"still damaged: {'; '.join(f'{f.path}: {f.message}' for f in self.left if not f.harmless)}"
        return f"{counted(len(self.actions), 'thing')} repaired" if self.actions else "nothing to repair"

    def lines(self) -> list[str]:
        """Return the steps and the faults that are left, a line each."""
        return [
            *(f"{action.what} {action.path}: {action.message}" for action in self.actions),
            *(f"left {fault.path}: {fault.message}" for fault in self.left),
        ]

    def plain(self) -> dict[str, Any]:
        """Return the repair as JSON-able data."""
        return {"actions": [a.plain() for a in self.actions], "left": [fault.plain() for fault in self.left]}

    @property
    def whole(self) -> bool:
        """Whether the study can be launched: only harmless faults are left."""
        return all(fault.harmless for fault in self.left)

    @property
    def exit_code(self) -> ExitCode:
        """The command's exit code."""
        return ExitCode.DONE if self.whole else ExitCode.STORAGE


def repair(storage: Storage, *, plugins: bool = False) -> Repaired:
    """Repair the study in a directory; no launch can begin meanwhile.

    A trial's record may be rebuilt only with the study's plug-ins, which are executed with `plugins` alone.

    Raises:
        LeaseHeld: a launch of the study runs.
        StorageError: `study.yaml` and its copy are both damaged, or the storage refuses.
    """
    with driver_lock.acquire(storage) as held:
        done = [Action("took over", paths.DRIVER, f"from {held.before}, which no longer runs")] if held.before else []
        found = check.faults(storage, alone=True)
        done += _study(storage, found)
        records = Records.open(storage, plugins=plugins)
        if plugins:  # With them more can be checked.
            found = check.faults(storage, alone=True)
        for fault in found:
            if _needs_plugins(records, fault):
                continue
            if fault.kind == "trial":
                done += _trial(records, fault)
            elif fault.kind == "outcome":
                done += _outcome(records, fault)
            elif fault.kind == "confirmation":
                kept = set_aside(storage, fault.path)
                done.append(Action("set aside", fault.path, f"as {kept}: {fault.message}"))
            elif fault.kind == "stage":
                storage.delete_directory(fault.path)
                done.append(Action("dropped", fault.path, fault.message))
        # Only now is it known which trials resume, and with which progress.
        for fault in check.faults(storage, alone=True, weights=False):
            if fault.kind == "leftover":
                storage.delete_directory(fault.path)
                done.append(Action("removed", fault.path, fault.message))
        left = check.faults(storage, alone=True, weights=False)
        return Repaired(tuple(done), tuple(_explained(records, fault) for fault in left))


def _study(storage: Storage, found: list[Fault]) -> Iterator[Action]:
    """Restore `study.yaml` from its copy, or the copy from it.

    Raises:
        StorageError: both are damaged, or of another version.
    """
    wrong = next((fault for fault in found if fault.path == paths.STUDY), None)
    if wrong is None:
        if not _same(storage):
            storage.write(paths.STUDY_COPY, storage.read(paths.STUDY))
            yield Action("rebuilt", paths.STUDY_COPY, f"from {paths.STUDY}")
        return
    if check.opened(storage)[0] is None:
        raise StorageError(
            f"{wrong.message}\n{paths.STUDY_COPY} is damaged too, so this study cannot be repaired; "
            "its files are unchanged. Launch under another --name"
        )
    if storage.exists(paths.STUDY):
        yield Action("set aside", paths.STUDY, f"as {set_aside(storage, paths.STUDY)}: {wrong.message}")
    storage.write(paths.STUDY, storage.read(paths.STUDY_COPY))
    yield Action("rebuilt", paths.STUDY, f"from {paths.STUDY_COPY}; the last change of its budget may be lost")


def _same(storage: Storage) -> bool:
    try:
        return storage.read(paths.STUDY_COPY) == storage.read(paths.STUDY)
    except FileNotFoundError:
        return False


def _needs_plugins(records: Records, fault: Fault) -> bool:
    """Return whether only a plug-in that is not imported could prove what a trial's record was."""
    if fault.kind not in ("trial", "outcome") or fault.number is None or loaded(records.spec.plugins):
        return False
    return fault.kind == "trial" or not records.storage.exists(paths.trial_record(fault.number))


def _explained(records: Records, fault: Fault) -> Fault:
    if not _needs_plugins(records, fault):
        return fault
    how = (
        f"`robustsearch repair {arguments(records.storage)} --plugins` imports the study's plug-ins and can rebuild it"
    )
    return replace(fault, message=f"{fault.message}; {how}")


def _outcome(records: Records, fault: Fault) -> Iterator[Action]:
    """Set aside an outcome that cannot be read, or rebuild the trial that a readable one belongs to."""
    assert fault.number is not None
    if not records.storage.exists(paths.trial_record(fault.number)):
        yield from _trial(records, fault)
        return
    kept = set_aside(records.storage, fault.path)
    yield Action("set aside", fault.path, f"as {kept}: {fault.message}; trial {fault.number} runs again")


def _trial(records: Records, fault: Fault) -> Iterator[Action]:
    """Rebuild a trial's record; where nothing proves it, set aside its outcome too, so that it is issued again."""
    assert fault.number is not None
    storage, number = records.storage, fault.number
    path = paths.trial_record(number)
    torn = storage.read(path) if storage.exists(path) else b""
    outcome = _read_outcome(records, number)
    rebuilt = rebuild(records, number, torn, outcome)
    if rebuilt is not None and outcome is not None and records.contradicts(outcome, rebuilt):
        outcome = None
    if storage.exists(path):
        yield Action("set aside", path, f"as {set_aside(storage, path)}: {fault.message}")
    if rebuilt is not None:
        storage.claim(path, rebuilt.json_bytes())
        ended = "its outcome counts" if outcome else f"trial {number} resumes at the next launch"
        yield Action("rebuilt", path, f"with the parameters that it had; {ended}")
    if storage.exists(paths.outcome(number)) and (rebuilt is None or outcome is None):
        what = "it is damaged too" if outcome is None else "nothing proves which parameters it belongs to"
        then = "runs again" if rebuilt else "is issued again at the next launch"
        kept = set_aside(storage, paths.outcome(number))
        yield Action("set aside", paths.outcome(number), f"as {kept}: {what}; trial {number} {then}")


def _read_outcome(records: Records, number: int) -> Outcome | None:
    try:
        found, wrong = records.wrong(records.storage.read(paths.outcome(number)), Outcome, number)
    except FileNotFoundError:
        return None
    return None if wrong else found


def rebuild(records: Records, number: int, torn: bytes, outcome: Outcome | None) -> TrialRecord | None:
    """Return a trial's record from its outcome, or from the beginning of a truncated one; None where neither proves it.

    The phases' keys prove it: they hash all that the measured networks depend on. Without a point, the
    parameters are those that the outcome names, or the truncated record is the beginning of the rebuilt one.
    """
    text = torn.decode(errors="replace")
    seeds = records.spec.replicates
    for source, seed in itertools.product((outcome.params if outcome else None, _after(text, "params")), seeds):
        record = _issued(records, number, source, seed, text, outcome)
        if record is None:
            continue
        if outcome and outcome.points:
            proven = all({point.key, point.stage} <= set(record.keys) for point in outcome.points)
        elif outcome and outcome.params:
            proven = source is outcome.params and (len(seeds) == 1 or seed == _after(text, "seed"))
        else:
            head = _head(record)
            proven = text[: len(head)] == head[: len(text)]
        if proven:
            return record
    return None


def _issued(
    records: Records, number: int, params: Any, seed: int, text: str, outcome: Outcome | None
) -> TrialRecord | None:
    """Return the record of a trial with these parameters and this seed, None where the study has no such trial."""
    if not isinstance(params, Mapping) or not set(params) <= set(records.spec.space):
        return None
    try:
        trial = records.spec.trial(params, seed)
    except SpecError:
        return None
    record = TrialRecord(
        number=number,
        study=records.spec.name,
        params=dict(params),
        spec=plain(trial),
        keys=tuple(step.key for step in keyed_phases(trial, records.fingerprint.data_hash)),
        seed=trial.seed,
        issued=outcome.started if outcome else utc_now(),
        configuration=_configuration(records, dict(params), seed),
    )
    # What no key proves is copied only from a record that is correct up to that field.
    sampler, issued = _after(text, "sampler"), _after(text, "issued")
    # Of a complete one with a wrong checksum nobody knows which field is wrong.
    torn = not text.rstrip().endswith("}")
    if torn and text.startswith(_head(record)) and isinstance(sampler, dict):
        record = record.model_copy(update={"sampler": sampler})
        if isinstance(issued, str):
            record = record.model_copy(update={"issued": issued})
    return record


def _configuration(records: Records, params: dict[str, Any], seed: int) -> int | None:
    """Return the configuration of a replicate: the first with its parameters that lacks its seed, else a new one."""
    if not records.spec.seeds:
        return None
    others = [(record.configuration, record) for record, _ in records.trials() if record.configuration is not None]
    taken = {at for at, record in others if record.seed == seed}
    same = {at for at, record in others if record.params == params} - taken
    return min(same, default=max((at for at, _ in others), default=-1) + 1)


def _head(record: TrialRecord) -> str:
    """Return the part of a record's text that follows from the parameters."""
    return record.json_bytes().decode().partition('"sampler"')[0]


def _after(text: str, name: str) -> Any:
    """Return the value of a field of a record that may be truncated, None where it is incomplete."""
    start = text.find(f'"{name}":')
    if start < 0:
        return None
    try:
        return json.JSONDecoder().raw_decode(text[start + len(name) + 3 :].lstrip())[0]
    except (ValueError, RecursionError):
        return None
