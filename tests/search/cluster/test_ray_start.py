"""What is watched while a launch connects to a cluster; Ray itself starts in the integration tests."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from search.cluster import ray_start
from search.cluster.ray_start import accepts, joining_alive


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
