"""What a worker finds where it runs: asked once, before any trial."""

from __future__ import annotations

import importlib
import socket
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainables.core.errors import ExitCode, RobustsearchError, SpecError, StorageError
from trainables.core.precision import Precision, resolve_precision
from trainables.core.versions import versions

if TYPE_CHECKING:
    from torch import nn

    from trainables.data.tensors import TrainingData
    from trainables.models.base import Model


def probe(
    data: dict[str, Any],
    networks: Sequence[tuple[dict[str, Any], Sequence[dict[str, Any]]]],
    storage: str,
    plugins: Sequence[str],
    precision: Precision,
    gpus: float,
) -> dict[str, Any]:
    """Read the training data, build each network and let its pruners look at it, write to the storage.

    Returns plain data on a worker with `gpus`: `host`, `device`, `versions`, `precision` (resolved for this device),
    and the data's `fingerprint`, `classes`, `shape`, `train` and `validation` sizes; or `error` and `exit_code` where
    something stands in the way.
    """
    try:
        from trainables import models
        from trainables.data import DATASETS, tensors
        from trainables.pruning import PRUNERS
        from trainables.store import paths
        from trainables.store.storage import Storage
        from trainables.worker.points import device_name
        from trainables.worker.run import assigned_device

        place = Storage(storage)
        # The driver holds its lease while it asks.
        if not place.exists(paths.DRIVER):
            raise StorageError(
                f"{place.location} is not the directory that the launch writes to: its lease is not there"
            )
        name = f"{paths.PROBE}{uuid.uuid4().hex}"
        place.write(name, b"")
        place.delete(name)
        for module in plugins:
            importlib.import_module(module)
        device = assigned_device(gpus)
        loaded = tensors.load(DATASETS.parse(data), device)
        for model, pruners in networks:
            network = _network(models.MODELS.parse(model), loaded)
            for pruner in pruners:
                PRUNERS.parse(pruner).check(network, loaded.shape)
        return {
            "host": socket.gethostname(),
            "device": device_name(device),
            "versions": versions(),
            "precision": resolve_precision(precision, device),
            "fingerprint": loaded.fingerprint,
            "split_hash": loaded.split_hash,
            "classes": loaded.classes,
            "shape": list(loaded.shape),
            "train": len(loaded.train),
            "validation": len(loaded.validation),
        }
    except (ImportError, StorageError) as error:
        return {"error": f"on {socket.gethostname()}: {error}", "exit_code": int(ExitCode.CLUSTER)}
    except RobustsearchError as error:
        return {"error": f"on {socket.gethostname()}: {error}", "exit_code": int(error.exit_code)}


def _network(spec: Model, data: TrainingData) -> nn.Module:
    """Build the study's network, which may be a user's.

    Raises:
        SpecError: it cannot be built, whatever it raised.
    """
    from trainables import models

    try:
        return models.build(spec, shape=data.shape, classes=data.classes, mean=data.mean, std=data.std, seed=0)
    except RobustsearchError:
        raise
    except Exception as error:
        raise SpecError(f"the network {spec.kind} cannot be built: {type(error).__name__}: {error}") from error
