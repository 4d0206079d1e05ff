"""Shared fixtures. One thread per process: a trial owns one core."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.object_server import ObjectServer

# How long an example takes is the machine's affair.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray reads it when it is imported, and tests that import Ray may come before those that use the shared cluster.
os.environ["RAY_AUTH_MODE"] = "token"
# What a shell starts in the background, or `nohup`, begins with these ignored, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a process whole files, so that fixtures of a module are made once, and one all integration tests, first.

    Those start many processes themselves, and take longest. Groups of xdist's own would do it, but xdist 3.8 overlooks
    them under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "integration" if nodeid.startswith("tests/integration/") else nodeid.partition("::")[0]

        def _assign_work_unit(self, node: Any) -> None:
            if "integration" in self.workqueue:
                self.workqueue.move_to_end("integration", last=False)
            super()._assign_work_unit(node)

        def remove_node(self, node: Any) -> str | None:
            """Leave out the files that a lost process had finished: handed on, they never report."""
            files = self.assigned_work[node]
            for done in [file for file, tests in files.items() if all(tests.values())]:
                del files[done]
            return super().remove_node(node)

    return ByFile(config, log)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over modules and tests, which last as long as the process."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _decoded_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests and their subprocesses decode out of the user's cache."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTSEARCH_CACHE", str(shared / "decoded"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Write without waiting for the disk: no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take the credentials of whoever runs the tests away from them."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "ROBUSTSEARCH_STORAGE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path is short enough for the sockets that Ray keeps in it, whatever TMPDIR says.

    That of `tmp_path` is not.
    """
    folder = Path(tempfile.mkdtemp(prefix="rs", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _object_server() -> Iterator[ObjectServer]:
    server = ObjectServer()
    yield server
    server.close()


@pytest.fixture
def object_server(_object_server: ObjectServer) -> ObjectServer:
    """A server of objects in this process with one empty bucket, `bucket`."""
    _object_server.reset()
    return _object_server
