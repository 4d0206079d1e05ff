"""What is watched while a launch connects to a cluster; Ray itself starts in the integration tests."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.cluster import ray_start
from search.cluster.base import ClusterError
from search.cluster.ray_start import Dashboard, accepts, joining_alive


def test_a_socket_accepts_while_somebody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # Paths of sockets are short.
    assert not accepts("raylet")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("raylet")
        assert not accepts("raylet")
        server.listen()
        assert accepts("raylet")
    assert not accepts("raylet"), "the file outlives the process"
    assert not accepts("x" * 200)


def test_a_cluster_is_dead_where_no_raylet_answers_that_did(monkeypatch: pytest.MonkeyPatch) -> None:
    living = {"a", "b"}
    monkeypatch.setattr(ray_start, "accepts", living.__contains__)
    monkeypatch.setattr(ray_start, "_raylets", set())
    assert joining_alive(), "nothing is known of raylets on other machines"
    monkeypatch.setattr(ray_start, "_raylets", {"a", "b"})
    living.remove("a")
    assert joining_alive()
    living.clear()
    assert not joining_alive()


class Gcs:
    """A head that knows more nodes with each look; a number is the state of a node, and its socket is its name."""

    def __init__(self, *looks: dict[str, int]) -> None:
        self.looks = iter(looks)
        self.last: dict[str, int] = {}

    def __call__(self, address: str) -> Gcs:
        return self

    def get_all_node_info(self, timeout: float) -> dict[int, Any]:
        self.last = next(self.looks, self.last)
        nodes = [SimpleNamespace(state=state, raylet_socket_name=name) for name, state in self.last.items()]
        return dict(enumerate(nodes))


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Join a cluster whose nodes are given look by look; a node named `here` is on this machine."""
    import ray
    from ray import _raylet

    def join(*looks: dict[str, int], patience: float) -> Any:
        monkeypatch.setattr(_raylet, "GcsClient", Gcs(*looks))
        return ray_start.join({"address": "10.0.0.1:6379"}, tmp_path, (), 1, patience)

    monkeypatch.setattr(ray_start, "accepts", lambda path: path == "here")
    monkeypatch.setattr(ray_start, "runtime_env", lambda *arguments: {})
    monkeypatch.setattr(ray, "init", lambda **arguments: sorted(ray_start._raylets))
    for name in ("LOOK_SECONDS", "HERE_SECONDS", "LOOK_EVERY"):
        monkeypatch.setattr(ray_start, name, 0.0)
    return join


def test_a_cluster_whose_nodes_still_start_is_joined_once_the_one_here_is_alive(join: Callable[..., Any]) -> None:
    assert join({}, {"here": 1}, {}, {"here": 0, "other": 0}, patience=60) == ["here"]
    assert ray_start._raylets == set()


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ({}, "no node of the Ray cluster at 10.0.0.1:6379 is alive"),
        ({"here": 1}, "no node of the Ray cluster at 10.0.0.1:6379 is alive"),
        ({"other": 0}, "this machine is not a node of .*, its node is elsewhere: launch on it"),
        (
            {"other": 0, "third": 0},
            "this machine is not a node .*, its 2 nodes are elsewhere: launch on one of them",
        ),
    ],
)
def test_a_cluster_without_a_node_here_is_refused(join: Callable[..., Any], nodes: dict[str, int], said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        join(nodes, patience=0.01)


def test_only_what_trials_need_starts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import parameter, ray_constants, services
    from ray.experimental import internal_kv

    started: dict[str, Any] = {}
    moments: list[str] = []

    def start(command: list[str], process_type: str, **more: Any) -> str:
        started[process_type] = command, more
        return process_type

    monkeypatch.setattr(services, "start_ray_process", start)
    monkeypatch.setattr(internal_kv, "_internal_kv_get", lambda key, **more: key)
    before = services.start_ray_process, internal_kv._internal_kv_get, parameter.RayParams
    with ray_start._few_processes(3, lambda: moments.append("idle")):
        assert services.start_ray_process(["gcs"], "gcs_server", fate_share=True) == "gcs_server"
        services.start_ray_process(["python", "dashboard.py"], "dashboard", fate_share=True)
        assert not moments
        services.start_ray_process(["raylet", "--num_prestart_python_workers=64", "--head"], "raylet", fate_share=True)
        assert moments == ["idle"]
        assert internal_kv._internal_kv_get(ray_constants.DASHBOARD_ADDRESS) == ray_start.PENDING
        assert internal_kv._internal_kv_get("other") == "other"
        params = parameter.RayParams()
        assert (params.include_log_monitor, params.dashboard_agent_listen_port) == (False, 0)
    assert before == (services.start_ray_process, internal_kv._internal_kv_get, parameter.RayParams)
    assert started["gcs_server"] == (["gcs"], {"fate_share": True})
    assert started["raylet"][0] == ["raylet", "--num_prestart_python_workers=3", "--head"]
    waiting, more = started["dashboard"]
    assert waiting == ["/bin/sh", "-c", ray_start.WAIT, "python", "dashboard.py"]
    assert more == {"fate_share": True, "pipe_stdin": True}


@pytest.mark.parametrize(("line", "runs"), [(b"\n", True), (b"", False)])
def test_the_dashboard_waits_for_a_line_and_does_not_start_without_its_launch(line: bytes, runs: bool) -> None:
    said = [sys.executable, "-c", "import sys; print(repr(sys.stdin.read()), *sys.argv[1:])", "a b", "$0"]
    done = subprocess.run(["/bin/sh", "-c", ray_start.WAIT, *said], input=line, capture_output=True, check=False)
    assert done.stdout.decode().strip() == ("'' a b $0" if runs else "")


class Head:
    """A node of Ray with processes and a store of keys."""

    def __init__(self) -> None:
        process = subprocess.Popen(["/bin/sh", "-c", ray_start.WAIT, "true"], stdin=subprocess.PIPE)
        self.all_processes = {"dashboard": [SimpleNamespace(process=process)], "monitor": []}
        self.keys: dict[bytes, bytes] = {}
        self._webui_url = "pending"

    @property
    def webui_url(self) -> str:
        return self._webui_url

    def get_gcs_client(self) -> Head:
        return self

    def internal_kv_get(self, key: bytes, namespace: bytes, timeout: float) -> bytes | None:
        return self.keys.get(key)

    def internal_kv_put(self, key: bytes, value: bytes, overwrite: bool, namespace: bytes) -> None:
        self.keys[key] = value

    def dead_processes(self) -> list[tuple[str, Any]]:
        infos = self.all_processes["dashboard"]
        return [("dashboard", info.process) for info in infos if info.process.poll() is not None]


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Head:
    from ray._private import worker

    node = Head()
    monkeypatch.setattr(worker, "_global_node", node)
    return node


def test_the_dashboard_says_its_address_once_when_it_has_come_up(head: Head) -> None:
    dashboard = Dashboard()
    assert dashboard.address() is None
    process = head.all_processes["dashboard"][0].process
    assert process.poll() is None, "it waits"
    dashboard.begin()
    head.keys[b"dashboard"] = b"127.0.0.1:8265"
    assert dashboard.address() == "127.0.0.1:8265"
    assert head.keys[b"webui:url"] == b"127.0.0.1:8265"
    assert dashboard.address() is None
    assert process.wait(timeout=10) == 0, "it was told to start"


def test_a_dashboard_that_dies_has_no_address(head: Head) -> None:
    dashboard = Dashboard()
    dashboard.begin()
    head.all_processes["dashboard"][0].process.wait(timeout=10)
    assert dashboard.address() == ""
    assert dashboard.address() is None


IMPORTED_FIRST = """
import os, sys
from ray import _raylet
from search.cluster.ray_start import use_token
for mode, token in (("disabled", ""), ("token", "a" * 64), ("token", "b" * 64), ("disabled", "")):
    os.environ.update(RAY_AUTH_MODE=mode, RAY_AUTH_TOKEN=token)
    use_token()
    loader = _raylet.AuthenticationTokenLoader.instance()
    print(_raylet.get_authentication_mode(), loader.get_raw_token(ignore_auth_mode=True) if token else "")
"""


@pytest.mark.slow
def test_ray_takes_the_token_also_where_it_was_imported_before() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED_FIRST], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["0 ", f"1 {'a' * 64}", f"1 {'b' * 64}", "0 "]
