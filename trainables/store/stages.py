"""The stage store: the state after each phase, named by the phase's key.

A stage is a directory `stages/<key>/`. Its `stage.json` is written last and names every file with its sha256, so a
stage is complete or absent. While a phase trains, the directory has one progress file per saved epoch instead; a
killed trial resumes from the newest readable one. A study has its own stages, and may copy those of the studies beside
it: equal keys, equal content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from trainables import __version__
from trainables.core.errors import StageDamaged, StorageError
from trainables.store import curves, lease, paths
from trainables.store.checksum import checksum_fault, sealed
from trainables.store.consistency import contradiction
from trainables.store.curves import TrainingCurve
from trainables.store.lease import Lease
from trainables.store.records import PartialMeasurement, Point
from trainables.store.storage import Storage
from trainables.store.weights_by_layer import LayerWeights, weights_by_layer

if TYPE_CHECKING:
    from trainables.store.state import State, Tensors

Checkpoint = dict[str, "Tensors"]
R = TypeVar("R", Point, PartialMeasurement)


@dataclass(frozen=True)
class Stage:
    """The content of `stage.json`: the study and trial that computed the stage, and the sha256 of each file."""

    epochs: int
    seconds: float
    study: str
    trial: int
    files: dict[str, str]
    version: str = ""
    weights_sha256: str | None = None
    """Hash of the state's weights, as a measurement of it records it; None in a stage of an older version."""


_STAGE = TypeAdapter(Stage)


class Stages:
    """The stages of one study directory."""

    def __init__(self, storage: Storage, root: Storage | None = None) -> None:
        """Open the store below a study's directory; nothing is created yet.

        `root` is the storage around the study. With it, stages of the other studies in it are found too, and no two
        studies compute the same stage at once.
        """
        self._storage = storage
        self._root = root
        self._known_siblings: list[Stages] | None = None

    def find(self, key: str, snapshots: Iterable[int] = ()) -> Stage | None:
        """Return a stage that this study has stored with at least these snapshots, or None."""
        try:
            stage = self.description(key)
        except (FileNotFoundError, StageDamaged):
            return None
        return stage if all(_snapshot(epoch) in stage.files for epoch in snapshots) else None

    def description(self, key: str) -> Stage:
        """Return what is stored under a key.

        Raises:
            FileNotFoundError: nothing is.
            StageDamaged: `stage.json` is damaged.
        """
        path = f"{paths.stage(key)}/{paths.STAGE}"
        content = self._storage.read(path)
        try:
            stage = _STAGE.validate_json(content)
        except ValidationError:
            raise StageDamaged(f"{self._storage.location}/{path} cannot be read") from None
        # Stages that name the hash of their weights have a checksum.
        if fault := checksum_fault(content, path, required=stage.weights_sha256 is not None):
            raise StageDamaged(f"{self._storage.location}/{path}: {fault}")
        return stage

    def load(self, key: str, snapshot: int | None = None) -> State | None:
        """Return a stored state, or the snapshot of an earlier epoch; None where it is absent or damaged."""
        try:
            return self.read(key, snapshot)
        except StageDamaged:
            return None

    def read(self, key: str, snapshot: int | None = None) -> State:
        """Return a stored state, or the snapshot of an earlier epoch.

        Raises:
            StageDamaged: it is absent or damaged; the message names the file.
        """
        name = paths.STATE if snapshot is None else _snapshot(snapshot)
        where = f"{self._storage.location}/{paths.stage(key)}"
        try:
            stage = self.description(key)
            if name not in stage.files:
                raise StageDamaged(f"{where} has no {name}")
            content = self._storage.read(f"{paths.stage(key)}/{name}")
        except FileNotFoundError as error:
            missing = str(error.filename).rpartition("/")[2] if error.filename else name
            raise StageDamaged(f"{where}/{missing} is not there") from None
        if hashlib.sha256(content).hexdigest() != stage.files[name]:
            raise StageDamaged(f"{where}/{name} is not what was stored: its sha256 differs")
        from trainables.store.state import unpack

        try:
            return _state(unpack(content))
        except StorageError as error:
            raise StageDamaged(f"{where}/{name}: {error}") from None

    def find_anywhere(self, key: str, snapshots: Iterable[int] = ()) -> Stage | None:
        """Return a stage as `find` does, copied from another study of the root where this one does not have it."""
        wanted = tuple(snapshots)
        if (own := self.find(key, wanted)) is not None or self._root is None:
            return own
        siblings = self._siblings()
        # A key covers what is computed, not the code that computes it: another version's stage may differ.
        found = ((sibling, stage) for sibling in siblings if (stage := sibling.find(key, wanted)) is not None)
        equal = ((sibling, stage) for sibling, stage in found if stage.version == __version__)
        return next((stage for sibling, stage in equal if self._copy(key, sibling, stage)), None)

    def _siblings(self) -> list[Stages]:
        """Return the stages of the other studies; an object store, where that takes a request, is asked once."""
        assert self._root is not None
        if self._known_siblings is not None:
            return self._known_siblings
        beside = [self._root.child(name) for name in self._root.names() if not name.startswith(".")]
        others = [storage for storage in beside if storage.location != self._storage.location]
        if self._root.local is not None:  # There may be other files beside the studies.
            return [Stages(storage) for storage in others if storage.has_directory(paths.STAGES)]
        self._known_siblings = [Stages(storage) for storage in others]
        return self._known_siblings

    def _copy(self, key: str, sibling: Stages, stage: Stage) -> bool:
        """Copy a sibling's stage; return whether it could be: it may be damaged, or dropped meanwhile."""
        folder = paths.stage(key)
        try:
            contents = {name: sibling._storage.read(f"{folder}/{name}") for name in stage.files}
        except FileNotFoundError:
            return False
        if any(hashlib.sha256(contents[name]).hexdigest() != sha for name, sha in stage.files.items()):
            return False
        for name, content in contents.items():
            self._storage.write(f"{folder}/{name}", content)
        self._describe(key, stage)
        return True

    def _describe(self, key: str, stage: Stage) -> None:
        """Write a stage's description, which comes last: with it the stage is there."""
        path = f"{paths.stage(key)}/{paths.STAGE}"
        self._storage.write(path, sealed(json.dumps(asdict(stage), indent=1), path))

    def acquire(self, key: str) -> Lease:
        """Acquire the lease to compute a stage, which one process among all studies of the root has.

        Raises:
            LeaseHeld: a living process computes it; wait for what it stores.
        """
        return lease.acquire(self._root or self._storage, paths.stage_lease(key))

    def keys(self) -> list[str]:
        """Return the keys of everything stored, stages and points, complete or in progress."""
        return self._storage.names(paths.STAGES)

    def linked(self, key: str) -> bool:
        """Return whether a stage is a link, or `stages` is: what it holds is not in this study."""
        return self._storage.is_link(paths.stage(key))

    def has_point(self, key: str) -> bool:
        """Return whether a key names a measured point, a small file, and no weights."""
        return self._storage.exists(paths.point(key))

    def size(self, key: str) -> int:
        """Return the bytes of a stage with its snapshots and progress."""
        return self._storage.size(paths.stage(key))

    def drop(self, key: str) -> None:
        """Delete a stage."""
        # Without its description a stage is absent, however far the deletion gets. A link has none of its own.
        if not self.linked(key):
            self._storage.delete(f"{paths.stage(key)}/{paths.STAGE}")
        self._storage.delete_directory(paths.stage(key))

    def save(
        self,
        key: str,
        state: State,
        *,
        epochs: int,
        seconds: float,
        study: str,
        trial: int,
        snapshots: Mapping[int, State] | None = None,
        curve: TrainingCurve | None = None,
    ) -> State:
        """Store a stage, drop the progress that led to it, and return the state that is stored.

        The first writer wins: where two trials computed a stage at once, on devices that round differently, both
        continue from the same bits.
        """
        folder = paths.stage(key)
        existing = self.find(key)
        files = dict(existing.files) if existing else {}
        contents = {paths.STATE: state, **{_snapshot(epoch): kept for epoch, kept in (snapshots or {}).items()}}
        if contents.keys() <= files.keys() and (first := self.load(key)) is not None:
            return first
        from trainables.store.state import pack

        for name, content in contents.items():
            packed = pack(_groups(content))
            files[name] = hashlib.sha256(packed).hexdigest()
            self._storage.write(f"{folder}/{name}", packed)
        if curve is not None:
            text = curve.json_text().encode()
            files[paths.CURVE] = hashlib.sha256(text).hexdigest()
            self._storage.write(f"{folder}/{paths.CURVE}", text)
        stage = Stage(epochs, seconds, study, trial, files, __version__, state.weights_sha256())
        self._describe(key, stage)
        for name in self._storage.names(folder) if epochs else ():  # Only a training saves progress.
            if name.startswith(paths.PROGRESS):
                self._storage.delete(f"{folder}/{name}", through_links=True)
        return state

    def save_progress(self, key: str, epoch: int, checkpoint: Checkpoint, snapshots: Mapping[int, State]) -> None:
        """Store the checkpoint of a stage's training after `epoch` epochs."""
        from trainables.store.state import pack

        folder = paths.stage(key)
        kept = {f"snapshot.{at}.{group}": t for at, state in snapshots.items() for group, t in _groups(state).items()}
        name = f"{paths.PROGRESS}{epoch:06d}.safetensors"
        self._storage.write(f"{folder}/{name}", pack({**checkpoint, **kept}))
        for older in self._storage.names(folder):
            if older.startswith(paths.PROGRESS) and older < name:
                self._storage.delete(f"{folder}/{older}", through_links=True)

    def load_progress(self, key: str) -> tuple[int, Checkpoint, dict[int, State]] | None:
        """Return the newest readable progress of a stage: its epoch, checkpoint and snapshots so far."""
        from trainables.store.state import unpack

        folder = paths.stage(key)
        names = [name for name in self._storage.names(folder) if name.startswith(paths.PROGRESS)]
        for name in sorted(names, reverse=True):
            number = name.removeprefix(paths.PROGRESS).removesuffix(".safetensors")
            try:
                groups = unpack(self._storage.read(f"{folder}/{name}"))
                epoch = int(number)
                kept: dict[int, Checkpoint] = {}
                for group in [g for g in groups if g.startswith("snapshot.")]:
                    _, at, part = group.split(".", 2)
                    kept.setdefault(int(at), {})[part] = groups.pop(group)
                return epoch, groups, {at: _state(parts) for at, parts in kept.items()}
            except (FileNotFoundError, StageDamaged, ValueError):
                continue
        return None

    def curve(self, key: str) -> TrainingCurve | None:
        """Return the curve of a stored training; None where it is absent or damaged, or an older version trained."""
        content = self._intact(key, paths.CURVE)
        return None if content is None else curves.parsed(content)

    def weights_by_layer(self, key: str) -> tuple[LayerWeights, ...] | None:
        """Return how many weights each layer of a stored network has left; None where it is absent or damaged."""
        content = self._intact(key, paths.STATE)
        return None if content is None else weights_by_layer(content)

    def _intact(self, key: str, name: str) -> bytes | None:
        """Return a file of a stage; None where stage or file is absent or damaged."""
        if (stage := self.find(key)) is None or name not in stage.files:
            return None
        try:
            content = self._storage.read(f"{paths.stage(key)}/{name}")
        except FileNotFoundError:
            return None
        return content if hashlib.sha256(content).hexdigest() == stage.files[name] else None

    def partials(self, key: str) -> list[tuple[int, PartialMeasurement]]:
        """Return the partial measurements of a training with the epochs after which they were made, in order."""
        names = [name for name in self._storage.names(paths.stage(key)) if name.startswith(_PARTIAL)]
        read = ((name, self._record(PartialMeasurement, f"{paths.stage(key)}/{name}")) for name in sorted(names))
        epochs = ((name.removeprefix(_PARTIAL).partition("-")[0], found) for name, found in read)
        return [(int(epoch), found) for epoch, found in epochs if found is not None and epoch.isdecimal()]

    def find_point(self, key: str) -> Point | None:
        """Return the stored result of a measurement; None where it is absent or damaged."""
        return self._record(Point, paths.point(key))

    def _record(self, kind: type[R], path: str) -> R | None:
        try:
            content = self._storage.read(path)
            found = kind.model_validate_json(content)
        except (FileNotFoundError, ValidationError):
            return None
        damaged = checksum_fault(content, path) or (found.place() or path) != path or contradiction(found)
        return None if damaged else found

    def save_point(self, point: Point) -> Point:
        """Store the result of a measurement, unless one is stored; return the stored one."""
        if not self._storage.claim(paths.point(point.key), point.json_bytes()):
            return self.find_point(point.key) or point
        return point

    def find_partial(self, key: str, epoch: int, measured: str) -> PartialMeasurement | None:
        """Return a partial measurement of a training after `epoch` epochs by the protocol `measured`, or None."""
        return self._record(PartialMeasurement, f"{paths.stage(key)}/{_partial(epoch, measured)}")

    def save_partial(self, key: str, epoch: int, measured: str, partial: PartialMeasurement) -> None:
        """Store a partial measurement of a training, beside its progress."""
        path = f"{paths.stage(key)}/{_partial(epoch, measured)}"
        self._storage.write(path, partial.json_bytes(path))


_PARTIAL = "rung-"
_GROUPS = {
    "params": "params",
    "buffers": "buffers",
    "masks": "masks",
    "extras": "latents",
    "history": "history",
    "notes": "notes",
}
"""The groups of tensors in a file, by the field of a state."""


def _snapshot(epoch: int) -> str:
    return f"snapshot-{epoch:06d}.safetensors"


def _partial(epoch: int, measured: str) -> str:
    return f"{_PARTIAL}{epoch:06d}-{measured[:16]}.json"


def _groups(state: State) -> dict[str, Any]:
    return {group: getattr(state, name) for name, group in _GROUPS.items()}


def _state(groups: Mapping[str, Tensors]) -> State:
    """Return the state of groups of tensors.

    Raises:
        StageDamaged: its masks are not those of its parameters.
    """
    from trainables.store.state import State

    state = State(**{name: groups.get(group, {}) for name, group in _GROUPS.items()})
    for name, mask in state.masks.items():
        if name not in state.params or mask.shape != state.params[name].shape or str(mask.dtype) != "torch.bool":
            raise StageDamaged(f"the mask {name[:80]} is that of no parameter")
    return state
