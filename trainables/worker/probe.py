"""What a worker finds on its machine, asked once before the first trial: the data, the networks, the storage."""

from __future__ import annotations

import socket
import uuid
from bdb import BdbQuit
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainables.core import plugins as plugin_modules
from trainables.core.errors import ExitCode, RobustsearchError, SpecError, StorageError
from trainables.core.plugins import PluginError
from trainables.core.precision import Precision, resolve_precision
from trainables.core.versions import versions

if TYPE_CHECKING:
    from torch import nn

    from trainables.data.tensors import TrainingData
    from trainables.models.base import Model
    from trainables.pruning.base import Pruner


def probe(
    data: dict[str, Any],
    networks: Sequence[tuple[dict[str, Any], Sequence[dict[str, Any]]]],
    storage: str,
    plugins: Sequence[str],
    precision: Precision,
    gpus: float,
) -> dict[str, Any]:
    """Write to the storage, read the training data, build each network and check that its pruners can score it.

    Specs come as plain data, for they travel to the worker. Returns plain data: the worker's `host`, `device` (with
    `gpus` GPUs), `versions` and `precision` (resolved for the device), and the data's `fingerprint`, `split_hash`,
    `classes`, `class_names`, `notes`, `shape`, `train` and `validation` sizes; or, where a trial cannot run, `error`
    and `exit_code`.
    """
    try:
        return _probe(data, networks, storage, plugins, precision, gpus)
    except (PluginError, StorageError) as error:
        return {"error": f"on {socket.gethostname()}: {error}", "exit_code": int(ExitCode.CLUSTER)}
    except RobustsearchError as error:
        said = f"{error}{plugin_modules.source(error)}"
        return {"error": f"on {socket.gethostname()}: {said}", "exit_code": int(error.exit_code)}
    except (Exception, SystemExit, GeneratorExit) as error:
        if isinstance(error, BdbQuit) or (failure := plugin_modules.blamed(error)) is None:
            raise
        return {"error": f"on {socket.gethostname()}: {failure}", "exit_code": int(ExitCode.BAD_INPUT)}


def _probe(
    data: dict[str, Any],
    networks: Sequence[tuple[dict[str, Any], Sequence[dict[str, Any]]]],
    storage: str,
    plugins: Sequence[str],
    precision: Precision,
    gpus: float,
) -> dict[str, Any]:
    from trainables import models
    from trainables.data import DATASETS, tensors
    from trainables.pruning import PRUNERS
    from trainables.worker.points import device_name
    from trainables.worker.run import assigned_device

    _check_storage(storage)
    plugin_modules.load(plugins)
    device = assigned_device(gpus)
    loaded = tensors.load(DATASETS.parse(data), device)
    for model, pruners in networks:
        spec = models.MODELS.parse(model)
        network = _network(spec, loaded)
        for pruner in pruners:
            _check_pruner(PRUNERS.parse(pruner), spec, network, loaded.shape)
    return {
        "host": socket.gethostname(),
        "device": device_name(device),
        "versions": versions(),
        "precision": resolve_precision(precision, device),
        "fingerprint": loaded.fingerprint,
        "split_hash": loaded.split_hash,
        "classes": loaded.classes,
        "class_names": list(loaded.class_names),
        "notes": list(loaded.notes),
        "shape": list(loaded.shape),
        "train": len(loaded.train),
        "validation": len(loaded.validation),
    }


def _check_storage(location: str) -> None:
    """Write to the storage, which has to be the launch's own.

    Raises:
        StorageError: it is another directory, or cannot be written.
    """
    from trainables.store import paths
    from trainables.store.storage import Storage

    storage = Storage(location)
    # The driver holds its lease while it asks.
    if not storage.exists(paths.DRIVER):
        raise StorageError(
            f"{storage.location} is not the directory that the launch writes to: it has no {paths.DRIVER}"
        )
    name = f"{paths.PROBE}{uuid.uuid4().hex}"
    storage.write(name, b"")
    storage.delete(name)


def _network(spec: Model, data: TrainingData) -> nn.Module:
    """Build the study's network, which may be a user's.

    Raises:
        SpecError: it cannot be built, whatever it raised.
    """
    from trainables import models

    try:
        return models.build(spec, shape=data.shape, classes=data.classes, mean=data.mean, std=data.std, seed=0)
    except (RobustsearchError, BdbQuit):
        raise
    except Exception as error:
        raise SpecError(f"the network {spec.kind} cannot be built: {type(error).__name__}: {error}") from error


def _check_pruner(pruner: Pruner, model: Model, network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Check that a pruner, which may be a user's, can score the network.

    Raises:
        SpecError: it cannot, whatever it raised.
    """
    try:
        pruner.check(network, shape)
    except (RobustsearchError, BdbQuit):
        raise
    except Exception as error:
        message = f"the pruner {pruner.kind} cannot score the network {model.kind}: {type(error).__name__}: {error}"
        raise SpecError(message) from error
