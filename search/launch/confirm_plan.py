"""What a confirmation is about to measure: which networks, with which attacks, and what of it is there already."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.cluster.base import Cluster
from search.cluster.spec import resolve
from search.files.messages import counted
from search.launch.code import code_paths
from search.launch.plan import check_writable
from search.results.candidates import dense_stage, near
from search.results.paper import cells
from search.results.study import Study
from search.results.table import PointRow
from search.store import catalogue, confirmations
from search.store.records import Records
from search.study.spec import StudySpec
from trainables.core.errors import ExitCode, RobustsearchError, SpecError, StorageError
from trainables.core.registry import nearest
from trainables.core.spec import plain
from trainables.data.base import Data
from trainables.method.confirmation import CLEAN, ENSEMBLE, Step, ensemble, groups
from trainables.store import paths
from trainables.store.confirmations import examples_name
from trainables.store.records import Point, TrialRecord
from trainables.store.stages import Stages
from trainables.store.storage import Address, Storage

MOST_SOURCES = 8
"""How many members of the front a network is attacked by transfer from: those of the nearest sparsity."""


class NothingToConfirm(RobustsearchError):
    """The study has no feasible point."""

    exit_code = ExitCode.NO_FEASIBLE_POINT


@dataclass(frozen=True)
class Network:
    """One network to measure: a point of the search, as it is or retrained with another seed.

    `stages` is the address of the study that stores its weights.
    """

    row: PointRow
    trial: TrialRecord
    point: Point
    stages: Address

    def identity(self) -> dict[str, Any]:
        """Return what a result says of its network."""
        sizes = ("sparsity", "nonzero", "prunable", "macs_dense", "macs_effective", "stage", "weights_sha256")
        return {"point": self.row.point, "seed": self.trial.seed, **{name: getattr(self.point, name) for name in sizes}}


@dataclass(frozen=True)
class ConfirmPlan:
    """A confirmation that is ready to start.

    `rows` are the points, from dense to sparse, `again` those that are retrained with the further `seeds`. `missing`
    are points whose weights are not stored; they are left out.
    """

    study: Study
    cluster: Cluster
    rows: tuple[PointRow, ...]
    again: tuple[PointRow, ...]
    seeds: tuple[int, ...]
    limit: int | None
    first: str
    corruptions: bool
    missing: tuple[str, ...]

    @property
    def spec(self) -> StudySpec:
        """The study."""
        return self.study.spec

    @property
    def storage(self) -> Storage:
        """The directory of the study."""
        return self.study.records.storage

    def of_seed(self, seed: int) -> tuple[PointRow, ...]:
        """Return the points that are measured with a seed."""
        return self.rows if seed == self.spec.seed else self.again

    def networks(self, seed: int) -> list[Network]:
        """Return the networks of a seed that are trained and stored."""
        if seed == self.spec.seed:
            trials = {trial.number: trial for trial, _ in self.study.records.trials()}
            return [Network(row, trials[row.trial], row.measured, self.storage.address) for row in self.rows]
        return list(self._retrained(seed))

    def _retrained(self, seed: int) -> Iterator[Network]:
        storage = self.seed_storage(seed)
        if not Records.exist(storage):
            return
        ended = [(trial, outcome) for trial, outcome in Records.open(storage).trials() if outcome is not None]
        for row in self.again:
            for trial, outcome in ended:
                if trial.params == dict(row.params) and outcome.state == "complete":
                    yield Network(row, trial, outcome.points[row.measured.measure], storage.address)
                    break

    def seed_storage(self, seed: int) -> Storage:
        """Return the directory of the study that retrains the points with another seed."""
        return self.storage.child(f"{paths.CONFIRM}/{confirmations.seed_name(seed)}")

    def steps(self, network: Network, others: Sequence[Network]) -> dict[str, tuple[Step, ...]]:
        """Return what is measured of a network, by group; `others` are the networks of the same seed."""
        return self._steps(self.sources(network, others))

    def _steps(self, sources: Iterable[str]) -> dict[str, tuple[Step, ...]]:
        return groups(self.spec.protocol, sources, first=self.first, corruptions=self.corruptions)

    def sources(self, network: Network, others: Sequence[Network]) -> dict[str, dict[str, Any]]:
        """Return the networks from which attacks are transferred: the dense parent, and neighbours on the front."""
        found: dict[str, dict[str, Any]] = {}
        dense = dense_stage(network.trial, network.point.stage)
        if dense is not None and Stages(Storage(network.stages)).find(dense):
            found["dense"] = _source(network, dense)
        front = [other for other in others if other.row.on_front and other.row.point != network.row.point]
        front.sort(key=lambda other: (abs(other.row.sparsity - network.row.sparsity), other.row.point))
        return {**found, **{other.row.point: _source(other, other.point.stage) for other in front[:MOST_SOURCES]}}

    def jobs(self, seed: int) -> list[dict[str, Any]]:
        """Return the jobs of a seed of which a result is missing: one per network and group, the attacks first."""
        networks = self.networks(seed)
        found: list[tuple[int, dict[str, Any]]] = []
        for network in networks:
            sources = self.sources(network, networks)
            steps = self._steps(sources)
            planned = names(steps)
            have = self.stored(network.point.weights_sha256)
            for order, (group, own) in enumerate(steps.items()):
                if not have.issuperset({CLEAN.name, *(step.name for step in own)}):
                    found.append((order, self._job(network, group, own, planned, sources)))
        return [job for _, job in sorted(found, key=lambda each: each[0])]

    def _job(
        self,
        network: Network,
        group: str,
        steps: Sequence[Step],
        planned: Sequence[str],
        sources: Mapping[str, dict[str, Any]],
    ) -> dict[str, Any]:
        trial = dict(network.trial.spec)
        if self.cluster.this_machine:
            trial["data"] = plain(self.spec.data)
        used = {step.source for step in steps}
        return {
            "title": f"{self.spec.name}-{network.row.point} seed {network.trial.seed}: {group}",
            "storage": self.storage.address,
            "stages": network.stages,
            "network": network.identity(),
            "spec": trial,
            "fingerprint": self.study.records.fingerprint.data_hash,
            "resources": self.cluster.resources,
            "limit": self.limit,
            "steps": [plain(step) for step in steps],
            "planned": list(planned),
            "sources": {name: source for name, source in sources.items() if name in used},
        }

    def stored(self, weights: str) -> set[str]:
        """Return the names of the results that are there for a network."""
        folder = f"{paths.CONFIRM}/{weights}/{examples_name(self.limit)}"
        return {name.removesuffix(".json") for name in self.storage.names(folder) if name.endswith(".json")}


def names(steps: dict[str, tuple[Step, ...]]) -> list[str]:
    """Return the names of all results of a network."""
    return [CLEAN.name, *(step.name for group in steps.values() for step in group)]


def _source(network: Network, stage: str) -> dict[str, Any]:
    return {"stages": network.stages, "stage": stage, "model": network.trial.spec["model"]}


def plan(
    name: str,
    *,
    cluster: Cluster | str | Path | None = None,
    storage: str | Path | None = None,
    points: Sequence[str] = ("near",),
    examples: int | None = None,
    seeds: int = 1,
    attack: str = ENSEMBLE,
    corruptions: bool = False,
) -> ConfirmPlan:
    """Choose what to confirm of a stored study, and refuse what cannot be measured.

    Args:
        name: the study.
        cluster: as for a launch.
        storage: the directory or URI with the studies.
        points: `near` (the front and what its intervals reach), `front`, or the ids of points.
        examples: how many of the test split, from the first; by default all.
        seeds: how many training seeds in all: the search's own, and further ones with which points are retrained.
        attack: the kind of the attack that comes first.
        corruptions: measure corrupted images, too.

    Raises:
        NothingToConfirm: the study has no feasible point.
        SpecError: there are fewer examples, or what else is asked for cannot be.
        RobustsearchError: what else prevents the confirmation.
    """
    resolved = resolve(cluster)
    root = Storage(str(storage or resolved.storage or catalogue.DEFAULT_STORAGE), resolved.storage_options)
    study = Study(Records.open(catalogue.study_storage(root, name), plugins=True))
    first = _first_attack(attack, study, resolved)
    rows, again = _chosen(study, points)
    kept = _stored(rows, study.records.storage)
    if resolved.this_machine:
        study.spec.data.check_test()
        located = study.spec.data.located()
        study.records.spec = study.spec.model_copy(update={"data": located})
    _check_examples(examples, study.spec.data, here=resolved.this_machine)
    code_paths(resolved, study.spec.plugins)
    check_writable(study.records.storage)
    _check_seeds(seeds, study.spec)
    return ConfirmPlan(
        study=study,
        cluster=resolved,
        rows=tuple(kept),
        again=tuple(row for row in again if row in kept),
        seeds=tuple(range(study.spec.seed, study.spec.seed + seeds)),
        limit=examples,
        first=first,
        corruptions=corruptions,
        missing=tuple(row.point for row in rows if row not in kept),
    )


def _stored(rows: Sequence[PointRow], storage: Storage) -> list[PointRow]:
    """Return the points whose weights are stored.

    Raises:
        StorageError: there is none.
    """
    stages = Stages(storage)
    kept = [row for row in rows if stages.find(row.measured.stage) is not None]
    if not kept:
        raise StorageError(
            f"the weights of {counted(len(rows), 'point')} are no longer stored in {storage.location}, the first is "
            f"{rows[0].point}; launch the study under another --name to train them again"
        )
    return kept


def _check_seeds(seeds: int, spec: StudySpec) -> None:
    """Refuse further training seeds for a study whose replicates have theirs."""
    if spec.seeds and seeds > 1:
        listed = ", ".join(map(str, spec.seeds))
        raise SpecError(
            f"--seeds {seeds}: {spec.name} has replicates with the seeds {listed}, which are confirmed as they are; "
            "leave --seeds out, or give the study more seeds"
        )


def _check_examples(examples: int | None, data: Data, *, here: bool) -> None:
    """Refuse more examples than test images, as far as these can be counted: on this machine in the files."""
    there = data.count_test() if here else data.test_images
    if examples is not None and there is not None and examples > there:
        some = ", of which `select` leaves some" if data.select else ""
        raise SpecError(
            f"--examples {examples}: the test split of {data.kind} has {there} images{some}; leave it out for all"
        )


def _chosen(study: Study, points: Sequence[str]) -> tuple[list[PointRow], list[PointRow]]:
    """Return the points to measure, and those to retrain; of replicates, all.

    A mean over replicates has no interval over images, so none is near the front.
    """
    front = study.front()
    if len(points) == 1 and points[0] in ("front", "near"):
        if not front:
            raise NothingToConfirm(f"{study.name} has no feasible point to confirm")
        if study.spec.seeds:
            chosen = {row.network for row in front}
            shared = [row for row in study.points() if row.network in chosen]
            return list({row.weights_sha256: row for row in reversed(shared)}.values())[::-1], []
        return (near(study.spec, study.points()) if points[0] == "near" else front), front
    known = {row.point: row for row in study.points()}
    points = cells.points(study) if list(points) == ["paper"] else points
    wanted = [f"t{point}" if point[:1].isdigit() else point for point in points]
    for point in wanted:
        if point not in known:
            raise SpecError(
                f"--points {point}: no such point in {study.name}{nearest(point, known)}; give near, front or paper "
                f"alone, or ids, such as `robustsearch front {catalogue.arguments(study.records.storage)}` lists"
            )
    chosen = {known[point].network for point in wanted}
    found = [row for row in study.points() if row.network in chosen] if study.spec.seeds else map(known.get, wanted)
    rows = sorted({row.weights_sha256: row for row in found if row}.values(), key=lambda row: row.sparsity)
    return rows, rows


def _first_attack(kind: str, study: Study, cluster: Cluster) -> str:
    """Return the kind of the first attack.

    Raises:
        SpecError: there is no such attack, it has no such norm, or its package is not installed.
    """
    found = ensemble(kind, study.spec.protocol.attack.norm, study.records.fingerprint.classes)
    if found == ENSEMBLE and cluster.this_machine and importlib.util.find_spec("pyautoattack") is None:
        raise SpecError(
            "AutoAttack needs the package pyautoattack; install it with: pip install 'robustsearch[confirm]', or give "
            "another --attack"
        )
    return found


def plan_data(plan: ConfirmPlan) -> dict[str, Any]:
    """Return a plan as JSON-able data."""
    networks = plan.networks(plan.spec.seed)
    steps = plan.steps(networks[0], networks)
    jobs = {seed: plan.jobs(seed) for seed in plan.seeds}
    return {
        "study": plan.spec.name,
        "points": [row.point for row in plan.rows],
        "missing": list(plan.missing),
        "retrained": [row.point for row in plan.again] if len(plan.seeds) > 1 else [],
        "seeds": list(plan.spec.seeds or plan.seeds),
        "examples": plan.limit,
        "eps": plan.spec.protocol.eps.text,
        "norm": plan.spec.protocol.attack.norm,
        "attacks": {group: [step.name for step in own] for group, own in steps.items()},
        "jobs": sum(map(len, jobs.values())),
        "cluster": plain(plan.cluster),
    }


def plan_facts(plan: ConfirmPlan) -> dict[str, str]:
    """Return a plan for a person to read, by name."""
    data = plan_data(plan)
    points = {row.network if plan.spec.seeds else row.point: row for row in plan.rows}
    many = f"{len(plan.rows)} networks of {counted(len(points), 'point')}" if plan.spec.seeds else str(len(points))
    front = sum(row.on_front for row in points.values())
    named = [name for own in data["attacks"].values() for name in own]
    attacks = dict.fromkeys("transfer" if name.startswith("transfer-t") else name for name in named)
    further = f"; {len(plan.again)} are retrained" if len(plan.seeds) > 1 else ""
    return {
        "study": data["study"],
        "points": f"{many}, {front} of them on the front: {', '.join(data['points'])}",
        **({"left out": f"{', '.join(plan.missing)}: their weights are not stored"} if plan.missing else {}),
        "seeds": f"{', '.join(map(str, data['seeds']))}{further}",
        "examples": f"the first {plan.limit} of the test split" if plan.limit else "the whole test split",
        "threat": f"{data['norm']}, eps {data['eps']}",
        "attacks": ", ".join(attacks),
        "jobs": f"{data['jobs']} to run of the networks that are trained",
        "cluster": plan.cluster.where(),
    }
