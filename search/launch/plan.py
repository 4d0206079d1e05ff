"""What a launch is about to do, checked as far as it can be without Ray, and files checked alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.cluster import spec as cluster_spec
from search.cluster.spec import Cluster, Local
from search.files import yaml
from search.launch import run, sharing, warm_start
from search.space.parameters import Params, active
from search.store import catalogue, driver_lock
from search.store.catalogue import DEFAULT_STORAGE
from search.store.records import Records
from search.study import file as study_file
from search.study.spec import StudySpec
from trainables.core.errors import DataError, RobustsearchError, StorageError
from trainables.core.spec import plain
from trainables.data.base import Data
from trainables.method.phases import Phase
from trainables.store.storage import Storage

_SHOWN_PHASES = 12


@dataclass(frozen=True)
class Plan:
    """A launch that is ready to start.

    `storage` is the study's own directory; `ended` counts its finished trials; `effects` say what it means that the
    study was changed.
    """

    spec: StudySpec
    cluster: Cluster
    storage: Storage
    exists: bool
    ended: int
    effects: tuple[str, ...] = ()

    def example(self) -> tuple[Params, tuple[Phase, ...]]:
        """Return the parameters and phases of one possible trial."""
        rim = {path: list(parameter.extremes().values())[-1] for path, parameter in self.spec.space.items()}
        params = active(self.spec.space, rim) or {}
        return params, self.spec.trial(params).recipe.phases()

    def plain(self) -> dict[str, Any]:
        """Return the plan as JSON-able data."""
        params, phases = self.example()
        driver = driver_lock.driver(self.storage)
        return {
            "study": self.spec.name,
            "exists": self.exists,
            "ended": self.ended,
            "trials": self.spec.budget.trials,
            "changes": list(self.effects),
            "storage": self.storage.location,
            "driver": str(driver) if driver else None,
            "cluster": plain(self.cluster),
            "spec": self.spec.resolved(),
            "sharing": asdict(sharing.estimate(self.spec)),
            "example": {"params": params, "phases": [plain(phase) for phase in phases]},
        }

    def facts(self) -> dict[str, str]:
        """Return the plan for a person to read."""
        spec = self.spec
        params, phases = self.example()
        driver = driver_lock.driver(self.storage)
        goes_on = f"goes on: {self.ended} of {spec.budget.trials} trials have ended" if self.exists else "is new"
        objectives = [f"{direction} {measure}" for measure, direction in spec.objectives.items()]
        bounds = [f"{measure} {bound}" for measure, bound in spec.constraints.items()]
        attack = spec.protocol.attack
        given = f"{len(spec.enqueue)} of them given, the rest " if spec.enqueue else ""
        learning = f", which learns from {', '.join(spec.warm_start)} first" if spec.warm_start else ""
        shown = [_phase(phase) for phase in phases[:_SHOWN_PHASES]]
        more = f", ... ({len(phases)} phases in all)" if len(phases) > _SHOWN_PHASES else ""
        found = {
            "study": f"{spec.name}, {goes_on}",
            "storage": self.storage.location,
            "cluster": _cluster(self.cluster),
            "data": spec.data.kind + (f" in {spec.data.root}" if spec.data.root else ""),
            "model": spec.model.kind,
            "trials": f"{spec.budget.trials}, {given}chosen by {spec.sampler.kind}{learning}",
            "objectives": "; ".join([*objectives, *bounds]),
            "protocol": f"{attack.label}, {attack.norm}, eps {spec.protocol.eps.text}",
            "searched": ", ".join(spec.space) or "nothing",
            **({"sharing": str(sharing.estimate(spec))} if spec.space else {}),
            "for example": ", ".join(f"{path} = {value}" for path, value in params.items()) or "the default values",
            "phases": ", ".join(shown) + more,
        }
        found |= {"changes": "; ".join(self.effects)} if self.effects else {}
        return {**found, "in the way": f"it is driven by {driver}"} if driver else found


def _phase(phase: Phase) -> str:
    data = plain(phase, defaults=False)
    settings = [
        f"{name}={value}" for name, value in data.items() if name != "kind" and not isinstance(value, (dict, list))
    ]
    return " ".join([phase.kind, *settings])


def opening(cluster: Cluster) -> str:
    """Say what a launch does first, which takes Ray some seconds."""
    if isinstance(cluster, Local):
        return "starting Ray on this machine ..."
    return f"connecting to the Ray cluster at {getattr(cluster, 'address', '')} ..."


def _cluster(cluster: Cluster) -> str:
    where = "this machine" if isinstance(cluster, Local) else f"Ray at {getattr(cluster, 'address', '')}"
    each = ", ".join(f"{amount:g} {name}" for name, amount in cluster.resources.items())
    at_once = f"{cluster.concurrency} at once" if cluster.concurrency else "as many at once as fit"
    return f"{where}; {each} for each trial, {at_once}"


def plan(
    study: str,
    cluster_file: str | None,
    storage: str | None,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    trials: str | None = None,
    dry: bool = False,
    allow_change: bool = False,
) -> Plan:
    """Read study and cluster, look at what is stored, and refuse what cannot run; `dry` downloads nothing.

    Raises:
        RobustsearchError: what stands in the way.
    """
    cluster = cluster_spec.load(cluster_file)
    shelf = Storage(storage or cluster.storage or DEFAULT_STORAGE)
    spec = catalogue.find(study, overrides, shelf)
    if name is not None:
        spec = spec.model_copy(update={"name": catalogue.check_name(name)})
    place = shelf.child(spec.name)
    records = Records.open(place) if Records.exist(place) else None
    spec = run.resized(spec, trials, records.spec.budget.trials if records else None)
    if isinstance(cluster, Local):
        spec = spec.model_copy(update={"data": _located(spec.data, dry)})
    prepared = run.prepare(spec, place, allow_change=allow_change)
    spec = prepared.spec
    if not prepared.exists:
        warm_start.check(spec, shelf)
    run.code_paths(cluster, spec.plugins)
    check_writable(place)
    ended = sum(outcome is not None for _, outcome in records.trials()) if records else 0
    return Plan(spec, cluster, place, prepared.exists, ended, prepared.effects)


def _located(data: Data, dry: bool) -> Data:
    """Return the data with an absolute `root`, as worker processes have another current directory."""
    if not (dry and data.download):
        return data.located()
    try:
        return data.model_copy(update={"download": False}).located().model_copy(update={"download": True})
    except DataError:
        return data


def check_writable(storage: Storage) -> None:
    """Refuse a local storage in which nothing can be created, as far as permissions tell.

    Raises:
        StorageError: a file is in the way, or permissions are.
    """
    if storage.local is None:
        return
    there = next(folder for folder in (storage.local, *storage.local.parents) if folder.exists())
    if not there.is_dir():
        raise StorageError(f"{storage.location}: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StorageError(f"{storage.location}: {there} cannot be written to")


@dataclass(frozen=True)
class Checked:
    """What `validate` found: what the file is, or what is wrong with it."""

    file: str
    kind: str
    says: str
    error: RobustsearchError | None = None

    def plain(self) -> dict[str, Any]:
        """Return the result as JSON-able data."""
        wrong = str(self.error) if self.error else None
        return {"file": self.file, "kind": self.kind, "valid": self.error is None, "error": wrong}


def check_file(file: str) -> Checked:
    """Check a study or cluster file, or a built-in study, by itself: no data set, storage or cluster is looked at."""
    kind = "study"
    try:
        if Path(file).exists() or file not in study_file.builtin_names():
            kind = _kind(yaml.load(file).data)
        if kind == "cluster":
            return Checked(file, kind, f"a cluster of kind {cluster_spec.load(file).kind}")
        spec = study_file.load(file)
    except RobustsearchError as error:
        return Checked(file, kind, "", error)
    searched = f"{len(spec.space)} searched parameter{'' if len(spec.space) == 1 else 's'}"
    says = f"study {spec.name}: {_kinds(spec, 'recipe')} of {_kinds(spec, 'model')} on {spec.data.kind}, {searched}"
    shared = f"; {sharing.estimate(spec)}" if spec.space else ""
    return Checked(file, kind, f"{says}, {spec.budget.trials} trials{shared}")


def _kinds(spec: StudySpec, part: str) -> str:
    """Name the kind of a recipe or model, or those among which is searched."""
    searched = spec.space.get(f"{part}.kind")
    return ", ".join(searched.extremes().values()) if searched else str(getattr(spec, part).kind)


def _kind(data: Any) -> str:
    if cluster_spec.is_launcher_file(data):
        return "cluster"
    return "cluster" if isinstance(data, dict) and "kind" in data and "recipe" not in data else "study"
