"""The probe of a worker: what it returns where a trial can run, and each thing that it refuses."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from trainables.core.versions import versions
from trainables.data import DATASETS, tensors
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.pruning import PRUNERS
from trainables.pruning.scores import Magnitude
from trainables.store import paths
from trainables.store.storage import Storage
from trainables.worker.probe import probe

LENET: dict[str, Any] = {"kind": "lenet300", "hidden": [16]}
MAGNITUDE: dict[str, Any] = {"kind": "magnitude"}

Probe = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(study_folder: Path) -> Probe:
    """Probe this process as a launch on `study_folder` does, with changed arguments."""
    (study_folder / paths.DRIVER).write_text("{}")

    def ask(**changes: Any) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "data": {"kind": "digits"},
            "networks": [(LENET, [MAGNITUDE])],
            "storage": str(study_folder),
            "plugins": [],
            "precision": "fp32",
            "gpus": 0,
            **changes,
        }
        found = probe(**asked)
        assert json.loads(json.dumps(found)) == found, "it travels as plain data"
        return found

    return ask


def refused(found: dict[str, Any], exit_code: int) -> str:
    """Return the message of a refusal, which names the host."""
    assert found.keys() == {"error", "exit_code"}
    assert found["exit_code"] == exit_code
    host = f"on {socket.gethostname()}: "
    assert found["error"].startswith(host)
    return str(found["error"].removeprefix(host))


def test_a_worker_that_can_run_trials_returns_what_it_has(
    ask: Probe, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.models.graph.sparse_weights.sparse_is_faster", lambda device: device.type == "cpu")
    data = tensors.load(DATASETS.parse("digits"), torch.device("cpu"))
    found = ask()
    assert found == {
        "host": socket.gethostname(),
        "versions": versions(),
        "device": "cpu",
        "precision": "fp32",
        "sparse": True,
        "fingerprint": data.fingerprint,
        "split_hash": data.split_hash,
        "classes": 10,
        "class_names": [str(digit) for digit in range(10)],
        "notes": [],
        "shape": [1, 8, 8],
        "train": len(data.train),
        "validation": len(data.validation),
        "networks": [
            {
                "model": "lenet300",
                "prunable": 1184,
                "parameters": 1210,
                "outside": {"1.bias": 16, "3.bias": 10},
                "weights_outside": 0,
            }
        ],
    }
    assert [path.name for path in study_folder.iterdir()] == [paths.DRIVER], "what was written is deleted"


@pytest.mark.parametrize(("amx", "resolved"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_resolved_for_the_workers_device(
    ask: Probe, monkeypatch: pytest.MonkeyPatch, amx: bool, resolved: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert ask(precision="auto")["precision"] == resolved
    assert ask(precision="bf16")["precision"] == "bf16"


def test_a_missing_data_set_is_refused_as_bad_input(ask: Probe, tmp_path: Path) -> None:
    message = refused(ask(data={"kind": "cifar10", "root": str(tmp_path / "nowhere")}), 2)
    assert str(tmp_path / "nowhere") in message


def test_a_directory_that_the_launch_does_not_write_to_is_refused(ask: Probe, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    message = refused(ask(storage=str(tmp_path / "other")), 6)
    assert "is not the directory that the launch writes to" in message
    assert str(tmp_path / "other") in message
    assert not list((tmp_path / "other").iterdir())


def test_a_storage_that_cannot_be_written_is_refused(
    ask: Probe, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    message = refused(ask(), 6)
    assert "No space left on device" in message
    assert str(study_folder) in message
    assert [path.name for path in study_folder.iterdir()] == [paths.DRIVER]


def test_a_plug_in_that_is_not_installed_on_the_worker_is_refused(ask: Probe) -> None:
    message = refused(ask(plugins=["absent_plugin"]), 6)
    assert message == (
        "the plug-in absent_plugin cannot be imported: ModuleNotFoundError: No module named 'absent_plugin' "
        "among the installed packages"
    )


@pytest.mark.parametrize(("code", "error"), [("import absent_too", "ModuleNotFoundError"), ("1 / 0", "ZeroDivision")])
def test_a_plug_in_that_cannot_be_imported_is_refused(
    ask: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, error: str
) -> None:
    name = f"broken_plugin_{error.lower()}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert refused(ask(plugins=[name]), 6).startswith(
        f"the plug-in {name} cannot be imported: {name}.py, line 1: {error}"
    )


def test_a_plug_in_is_imported_before_the_specs_that_need_it(
    ask: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from typing import Literal\n"
        "from trainables.models import MODELS\n"
        "from trainables.models.lenet import Linear\n"
        "class Mine(Linear):\n"
        "    kind: Literal['mine'] = 'mine'\n"
        "MODELS.register('mine', Mine)\n"
    )
    (tmp_path / "probed_plugin.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))
    assert "error" not in ask(plugins=["probed_plugin"], networks=[({"kind": "mine"}, [])])


NETWORKS = """
import sys
from typing import Literal
from trainables.models import MODELS
from trainables.models.base import Model
class Leaves(Model):
    kind: Literal['leaves'] = 'leaves'
    def network(self, shape, classes):
        sys.exit(3)
class Fails(Model):
    kind: Literal['fails'] = 'fails'
    def network(self, shape, classes):
        return {}['layers']
MODELS.register('leaves', Leaves)
MODELS.register('fails', Fails)
"""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("leaves", "probed_networks.py, line 9"),
        ("fails", "the network fails cannot be built: KeyError: 'layers' (in the plug-in probed_networks: "),
    ],
)
def test_a_plug_in_that_fails_in_the_probe_is_named_with_its_line(
    ask: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    (tmp_path / "probed_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))
    monkeypatch.delitem(sys.modules, "probed_networks", raising=False)
    found = refused(ask(plugins=["probed_networks"], networks=[({"kind": kind}, [])]), 2)
    assert "the plug-in probed_networks" in found
    assert message in found


class Hopeless(Model):
    """A network that cannot be built."""

    kind: Literal["hopeless"] = "hopeless"

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        raise ValueError("no such shape")


class Blind(Magnitude):
    """A pruner that cannot score."""

    kind: Literal["blind"] = "blind"  # type: ignore[assignment]

    def check(self, model: nn.Module, shape: tuple[int, int, int]) -> None:
        raise KeyError("weight")


def test_a_network_that_cannot_be_built_is_refused(ask: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "_table", {**MODELS._table, "hopeless": Hopeless})
    message = refused(ask(networks=[(LENET, []), ({"kind": "hopeless"}, [])]), 2)
    assert message == "the network hopeless cannot be built: ValueError: no such shape"


def test_a_network_that_the_images_do_not_fit_is_refused(ask: Probe) -> None:
    message = refused(ask(networks=[({"kind": "vgg16"}, [])]), 2)
    assert "vgg16" in message


def test_a_network_that_a_pruner_cannot_score_is_refused(ask: Probe) -> None:
    message = refused(ask(networks=[(LENET, [MAGNITUDE, {"kind": "slimming"}])]), 2)
    assert "needs a network whose layers have batch norms" in message


def test_a_pruner_that_fails_to_check_a_network_is_refused(ask: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PRUNERS, "_table", {**PRUNERS._table, "blind": Blind})
    message = refused(ask(networks=[(LENET, [{"kind": "blind"}])]), 2)
    assert message == "the pruner blind cannot score the network lenet300: KeyError: 'weight'"


def test_nothing_else_is_checked_where_the_storage_is_refused(ask: Probe, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "absent"))
    found = ask(storage=storage.location, data={"kind": "cifar10", "root": "nowhere"}, plugins=["absent_plugin"])
    assert "is not the directory" in refused(found, 6)
    assert not (tmp_path / "absent").exists()
