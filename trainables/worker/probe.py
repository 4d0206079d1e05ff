"""What a worker finds on its machine, asked once before the first trial: the data, the networks, the storage."""

from __future__ import annotations

import socket
import uuid
from bdb import BdbQuit
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainables.core import plugins as plugin_modules
from trainables.core.errors import ExitCode, RobustsearchError, StorageError, TimedOut
from trainables.core.plugins import PluginError
from trainables.core.precision import Precision, resolve_precision
from trainables.core.versions import versions
from trainables.store.storage import Address, Storage
from trainables.worker.supervision import supervised
from trainables.worker.supervisor import Order

if TYPE_CHECKING:
    from torch import nn

    from trainables.data.tensors import TrainingData
    from trainables.models.base import Model
    from trainables.pruning.base import Pruner

NAME = "the small trial before the first one"
"""What messages call a probe that hangs: it is the trials in it that do."""


def probe(
    data: dict[str, Any],
    networks: Sequence[tuple[dict[str, Any], Sequence[dict[str, Any]]]],
    storage: Address,
    plugins: Sequence[str],
    precision: Precision,
    gpus: float,
    trials: Sequence[dict[str, Any]] = (),
    silence: float | None = None,
    report: str | None = None,
) -> dict[str, Any]:
    """Write to the storage, read the training data, build each network, and run small trials.

    `networks` are the models of the study, each with the pruners that have to score it; `trials` are those that are run
    in small. Specs come as plain data, for they travel to the worker. Where nothing progresses for `silence` seconds,
    the probe is interrupted; or, with `report`, its process is ended, and that file in the storage says why.

    Returns plain data: the worker's `host`, `device` (with `gpus` GPUs), `versions`, `precision` (resolved for the
    device) and whether `sparse` matrices are faster there; the data's `fingerprint`, `split_hash`, `classes`,
    `class_names`, `notes`, `shape`, `train` and `validation` sizes; what share of each of the `networks` is prunable.
    Where a trial cannot run: `error` and `exit_code`.
    """
    try:
        import trainables.worker.rehearsal  # noqa: F401 - Imports of torch take seconds, and show no progress.

        with supervised(Order(0, storage, silence, None, kill=report is not None, name=NAME, report=report)):
            return _probe(data, networks, storage, plugins, precision, gpus, trials)
    except TimedOut as error:
        return {"error": f"on {socket.gethostname()}: {error}", "exit_code": int(ExitCode.BAD_INPUT)}
    except (PluginError, StorageError) as error:
        return {"error": f"on {socket.gethostname()}: {error}", "exit_code": int(ExitCode.CLUSTER)}
    except RobustsearchError as error:
        said = f"{error}{plugin_modules.source(error) or plugin_modules.given(error)}"
        return {"error": f"on {socket.gethostname()}: {said}", "exit_code": int(error.exit_code)}
    except (Exception, SystemExit, GeneratorExit) as error:
        if isinstance(error, BdbQuit) or (failure := plugin_modules.blamed(error)) is None:
            raise
        return {"error": f"on {socket.gethostname()}: {failure}", "exit_code": int(ExitCode.BAD_INPUT)}


def _probe(
    data: dict[str, Any],
    networks: Sequence[tuple[dict[str, Any], Sequence[dict[str, Any]]]],
    storage: Address,
    plugins: Sequence[str],
    precision: Precision,
    gpus: float,
    trials: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    from trainables import models
    from trainables.data import DATASETS, tensors
    from trainables.models.checks import title
    from trainables.models.graph.sparse_weights import sparse_is_faster
    from trainables.models.share import Share
    from trainables.pruning import PRUNERS
    from trainables.recipes.trial import TrialSpec
    from trainables.worker.points import device_name
    from trainables.worker.rehearsal import rehearse
    from trainables.worker.resources import assigned_device, use_assigned_threads

    _check_storage(storage)
    plugin_modules.load(plugins)
    device = assigned_device(gpus)
    loaded = tensors.load(DATASETS.parse(data), device)
    small = [TrialSpec.model_validate(trial) for trial in trials]
    seed = small[0].seed if small else 0
    shares = []
    for model, pruners in networks:
        spec = models.MODELS.parse(model)
        network = _network(spec, loaded, seed)
        shares.append(Share.of(title(spec), network).plain())
        for pruner in pruners:
            _check_pruner(PRUNERS.parse(pruner), spec, network, loaded.shape)
    use_assigned_threads()
    rehearse(small, loaded, device)
    return {
        "host": socket.gethostname(),
        "device": device_name(device),
        "versions": versions(),
        "precision": resolve_precision(precision, device),
        "sparse": sparse_is_faster(device),
        "fingerprint": loaded.fingerprint,
        "split_hash": loaded.split_hash,
        "classes": loaded.classes,
        "class_names": list(loaded.class_names),
        "notes": list(loaded.notes),
        "shape": list(loaded.shape),
        "train": len(loaded.train),
        "validation": len(loaded.validation),
        "networks": shares,
    }


def _check_storage(address: Address) -> None:
    """Write to the storage, which has to be the launch's own.

    Raises:
        StorageError: it is another directory, or cannot be written.
    """
    from trainables.store import paths

    storage = Storage(address)
    # The driver holds its lease while it asks.
    if not storage.exists(paths.DRIVER):
        raise StorageError(
            f"{storage.location} is not the directory that the launch writes to: it has no {paths.DRIVER}"
        )
    name = f"{paths.PROBE}{uuid.uuid4().hex}"
    storage.write(name, b"")
    storage.delete(name)


def _network(spec: Model, data: TrainingData, seed: int) -> nn.Module:
    """Build the study's network, which may be a user's, and check that trials can train, prune and measure it.

    Raises:
        SpecError: they cannot, whatever was raised.
    """
    from trainables import models
    from trainables.models.checks import check_passes, check_structure, check_trainable, title
    from trainables.models.isolation import isolated
    from trainables.worker.rehearsal import IMAGES, explained

    images, other = data.train.pixels(slice(IMAGES)).cpu(), None
    with explained(lambda: f"the network {title(spec)} cannot be built"):
        network = models.build_for(data, spec, seed=seed)
        check_trainable(spec, network)
        if not type(spec).__module__.startswith("trainables."):
            other = models.build_for(data, spec, seed=seed + 1)
    with explained(lambda: f"the network {title(spec)} cannot be trained"), isolated():
        check_passes(spec, network, images, data.classes)
        if other is not None:
            check_structure(spec, network, other, images)
    return network


def _check_pruner(pruner: Pruner, model: Model, network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Check that a pruner, which may be a user's, can score the network.

    Raises:
        SpecError: it cannot, whatever it raised.
    """
    from trainables.worker.rehearsal import explained

    with explained(lambda: f"the pruner {pruner.kind} cannot score the network {model.kind}"):
        pruner.check(network, shape)
