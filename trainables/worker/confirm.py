"""One job of a confirmation on a worker: the steps of a group, on the test split, for one network. It imports no Ray.

The worker writes each result itself, so that what was measured is on disk whatever happens to the driver; what is there
is not measured again.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
import traceback
from bdb import BdbQuit
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables import __version__, models
from trainables.core import plugins
from trainables.core.errors import DataError, ExitCode, RobustsearchError, StorageError, failure_class
from trainables.core.spec import plain
from trainables.core.versions import versions
from trainables.data import tensors
from trainables.data.base import Data
from trainables.data.heldout import load_test
from trainables.data.tensors import Split, TrainingData
from trainables.measure import confirm, evaluate
from trainables.method.confirmation import CLEAN, NOISE_OFF, Step
from trainables.models.base import Model
from trainables.recipes.trial import TrialSpec
from trainables.store import confirmations, paths
from trainables.store.confirmations import Begun, Confirmation, bits, examples_name
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Address, Storage
from trainables.worker.job import release_memory
from trainables.worker.points import device_name
from trainables.worker.resources import required_device, use_assigned_threads

SAVE_SECONDS = 10.0
"""The shortest time between two saves of a step under way; a chunk of AutoAttack may take minutes."""

PACKAGES = {"autoattack": "pyautoattack"}
"""The package that has an attack, by kind, where it is not ours: its version is part of the name."""


def run(config: dict[str, Any], cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Run a job, and return as plain data the names of its results, or `error`, `kind` and `exit_code`.

    The configuration is plain data: the `storage` of the study, the `stages` with the network's `stage`, its identity
    (`network`: fields of a `Confirmation`), the trial's `spec`, the `fingerprint` of the training data, `resources`,
    the `limit` of examples, the `steps` with the names of all that are `planned`, and the `sources` by name: `stages`,
    `stage` and `model`.
    """
    done: list[str] = []
    try:
        for result in progress(config, cancelled):
            done.append(result.attack)
        return {"done": done}
    except confirm.Cancelled:
        return {"done": done, "cancelled": True}
    except (KeyboardInterrupt, BdbQuit):
        raise
    except BaseException as error:  # One network that cannot be measured must not end the others.
        code = error.exit_code if isinstance(error, RobustsearchError) else ExitCode.BUG
        trace = "".join(traceback.format_exception(error))[-8000:]
        said = f"{error}{plugins.source(error)}" if isinstance(error, RobustsearchError) else repr(error)
        failed = {"error": said[:2000], "kind": failure_class(error), "exit_code": int(code), "traceback": trace}
        return {"done": done, **failed}
    finally:
        release_memory()


def progress(config: dict[str, Any], cancelled: Callable[[], bool] = lambda: False) -> Iterator[Confirmation]:
    """Run a job step by step, and yield each result when it is stored.

    Raises:
        RobustsearchError: the network, the data or the storage are not what the job describes.
        Cancelled: `cancelled()` turned true; the results so far stay.
    """
    storage = Storage(config["storage"])
    if not storage.exists(paths.STUDY):
        raise StorageError(
            f"{storage.location} on {socket.gethostname()} holds no study: workers need the same storage"
        )
    plugins.load(config["spec"].get("plugins", ()))
    job = _Job(config, storage)
    yield job.clean
    for step in map(Step.model_validate, config["steps"]):
        yield job.result(step, cancelled)


@dataclass
class _Job:
    """The network and the examples of a job, and which of them stand."""

    config: dict[str, Any]
    storage: Storage
    trial: TrialSpec = field(init=False)
    device: torch.device = field(init=False)
    clean: Confirmation = field(init=False)
    _broken: list[tuple[float, int]] = field(default_factory=list, init=False)
    _nearest: np.ndarray | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.trial = TrialSpec.model_validate(self.config["spec"])
        self.device = required_device(self.config["resources"].get("GPU", 0))
        use_assigned_threads()
        self._data = training(self.trial.data, self.config["fingerprint"], self.device)
        self._split, self._split_sha256 = examples(self.trial.data, self.config["limit"], str(self.device))
        state = self._state(self.config["stages"], self.config["network"]["stage"])
        if state.weights_sha256() != self.config["network"]["weights_sha256"]:
            raise StorageError(f"stage {self.config['network']['stage']} holds other weights than those measured")
        self._subject = confirm.Subject.of(self._network(self.trial.model), state, self.trial.protocol, self.device)
        self.clean = self.result(CLEAN)

    def result(self, step: Step, cancelled: Callable[[], bool] = lambda: False) -> Confirmation:
        """Return the result of a step, stored already or measured now."""
        path = paths.confirmation(
            self.config["network"]["weights_sha256"], examples_name(self.config["limit"]), step.name
        )
        found = confirmations.read(self.storage, path)
        if found is None:
            measured = self._measured(step, cancelled)
            found = measured if confirmations.write(self.storage, measured) else confirmations.read(self.storage, path)
            self.storage.delete(self._begun_path(step))
        if not isinstance(found, Confirmation):
            raise StorageError(f"{self.storage.location}/{path} is damaged: {found}")
        if found.split_sha256 != self._split_sha256:
            raise DataError(f"{path} was measured on other test images than those on {socket.gethostname()}")
        if step.role == "attack":
            self._broken.append((float(step.eps), bits(found.attacked) & ~bits(found.correct)))
            if found.distances is not None:
                self._nearest = _array(found.distances)
        return found

    def _standing(self, step: Step) -> np.ndarray:
        """Return which examples a step is run on (N,): those that are correct, and that nothing has broken before."""
        if step.role != "attack":
            return np.ones(len(self._split), dtype=bool)
        stands = evaluate.unpack_verdicts(self.clean.correct, len(self._split))
        for eps, broken in self._broken:
            if eps <= float(step.eps):
                stands &= ~evaluate.unpack_verdicts(confirmations.packed(len(self._split), broken), len(self._split))
        if self._nearest is not None:
            stands &= self._nearest > float(step.eps)
        return stands

    def _measured(self, step: Step, cancelled: Callable[[], bool]) -> Confirmation:
        started = datetime.now(UTC)
        stands = self._standing(step)
        source = self._source(step.source) if step.source not in (None, NOISE_OFF) and stands.any() else None
        index = np.flatnonzero(stands)
        found, seconds = self._found(step, index, source, cancelled)
        correct = np.zeros(len(self._split), dtype=bool)
        if found is not None:
            correct[index] = found.correct
        return Confirmation(
            **self.config["network"],
            attack=step.name,
            planned=tuple(self.config["planned"]),
            role=step.role,
            label=_label(step),
            spec=plain(step, defaults=False),
            norm=self.trial.protocol.attack.norm,
            eps=float(step.eps),
            eps_text=step.eps.text,
            split_sha256=self._split_sha256,
            limit=self.config["limit"],
            examples=len(self._split),
            attacked=evaluate.pack_verdicts(stands),
            correct=evaluate.pack_verdicts(correct),
            attacked_count=int(stands.sum()),
            correct_count=int(correct.sum()),
            distances=self._distances(index, found),
            draws=0 if step.role == "noise_off" else self._subject.draws,
            seconds=seconds,
            device=device_name(self.device),
            host=socket.gethostname(),
            versions=versions(),
            code_version=__version__,
            started=started.isoformat(timespec="microseconds"),
            finished=datetime.now(UTC).isoformat(timespec="microseconds"),
        )

    def _found(
        self, step: Step, index: np.ndarray, source: nn.Module | None, cancelled: Callable[[], bool]
    ) -> tuple[confirm.Found | None, float]:
        """Run a step, from where an earlier attempt was interrupted, and return the seconds of all attempts."""
        if not len(index):
            return None, 0.0
        began = saved = time.monotonic()
        path, of = self._begun_path(step), self._identity(step, index)
        begun = confirmations.read_begun(self.storage, path, of)
        before = begun.seconds if begun else 0.0

        def keep(found: confirm.Found) -> None:
            nonlocal saved
            now = time.monotonic()
            if now - saved >= SAVE_SECONDS and len(found.correct) < len(index):
                part = Begun(
                    of=of,
                    examples=len(found.correct),
                    correct=evaluate.pack_verdicts(found.correct),
                    distances=None if found.distances is None else _plain(found.distances),
                    seconds=before + now - began,
                )
                self.storage.write(path, part.json_bytes(path))
                saved = now

        start = None if begun is None else _found_before(begun)
        found = confirm.run(self._subject, step, self._split, index, source, cancelled, start, keep)
        return found, before + time.monotonic() - began

    def _begun_path(self, step: Step) -> str:
        weights = self.config["network"]["weights_sha256"]
        return paths.begun_confirmation(weights, examples_name(self.config["limit"]), step.name)

    def _identity(self, step: Step, index: np.ndarray) -> str:
        """Name all that decides what a step finds of each example."""
        source = self.config["sources"].get(step.source, {}).get("stage")
        chunk = evaluate.chunk_size(self.device)
        parts = (plain(step), source, self._split_sha256, index.tolist(), chunk, versions(), __version__)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _distances(self, index: np.ndarray, found: confirm.Found | None) -> tuple[float | None, ...] | None:
        """Return the distance of every example: 0 for those that are wrong without an attack."""
        if found is None or found.distances is None:
            return None
        everywhere = np.zeros(len(self._split))
        everywhere[index] = found.distances
        return tuple(None if d is None else float(f"{d:.9g}") for d in _plain(everywhere))

    def _source(self, name: str | None) -> nn.Module:
        """Return another network, in eval mode; of one with noise, that with the noise off."""
        described = self.config["sources"][name]
        state = self._state(described["stages"], described["stage"])
        return evaluate.frozen(self._network(models.MODELS.parse(described["model"])), state, self.device)

    def _state(self, stages: Address, key: str) -> State:
        return Stages(Storage(stages)).read(key).to(self.device)

    def _network(self, model: Model) -> nn.Module:
        return models.build_for(self._data, model, seed=self.trial.seed).to(self.device)


def _plain(distances: np.ndarray) -> tuple[float | None, ...]:
    """Return distances (N,) as JSON has them: null where nothing was found."""
    return tuple(float(d) if np.isfinite(d) else None for d in distances)


def _array(distances: Iterable[float | None]) -> np.ndarray:
    """Return what `_plain` has made plain."""
    return np.array([np.inf if d is None else d for d in distances])


def _found_before(begun: Begun) -> confirm.Found:
    correct = evaluate.unpack_verdicts(begun.correct, begun.examples)
    if begun.distances is None:
        return confirm.Found(correct)
    return confirm.Found(correct, _array(begun.distances))


def training(spec: Data, fingerprint: str, device: torch.device) -> TrainingData:
    """Return the training data, of which networks know shape and statistics.

    Raises:
        DataError: they are not those that the study was made with.
    """
    data = tensors.load(spec, device)
    if data.fingerprint != fingerprint:
        raise DataError(
            f"the data on {socket.gethostname()} differ from those the study was made with "
            f"(fingerprint {data.fingerprint[:12]}, not {fingerprint[:12]})"
        )
    return data


@lru_cache(maxsize=2)
def examples(spec: Data, limit: int | None, device: str) -> tuple[Split, str]:
    """Return the first `limit` examples of the test split, which is in a fixed random order, and their hash.

    Raises:
        DataError: there is no test split, or it has fewer examples.
    """
    whole = load_test(spec, device)
    if limit is not None and limit > len(whole):
        raise DataError(
            f"--examples {limit}: the test split of {spec.kind} has {len(whole)} images; leave it out for all"
        )
    part = slice(0, limit)
    split = Split(whole.x[part], whole.y[part], whole.scale)
    digest = hashlib.sha256(str(tuple(split.x.shape)).encode())
    for tensor in (split.x, split.y):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return split, digest.hexdigest()


def _label(step: Step) -> str:
    """Return the name of a step for tables, with the version of the package that has the attack."""
    package = PACKAGES.get(step.attack.kind) if step.attack is not None and step.source is None else None
    return step.label if package is None else f"{step.label} ({package} {metadata.version(package)})"
