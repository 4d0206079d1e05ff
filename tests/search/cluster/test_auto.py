"""What `address: auto` stands for, given what runs on this machine."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from search.cluster import auto
from search.cluster.auto import host_and_port, located
from search.cluster.base import ClusterError

A, B = "10.0.0.1:6379", "10.0.0.2:6379"


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv(auto.VARIABLE, raising=False)
    monkeypatch.setattr(auto, "running", set)


def note(tmp_path: Path, address: str) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"{address}\n")


@pytest.mark.parametrize("given", ["", "auto", "local"])
def test_the_variable_comes_first_and_an_address_stands_for_itself(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr(auto, "running", lambda: {B})
    monkeypatch.setenv(auto.VARIABLE, A)
    assert located("auto") == A
    assert located(B) == B
    monkeypatch.setenv(auto.VARIABLE, given)
    assert located("auto") == B


@pytest.mark.parametrize("given", ["http://127.0.0.1:8265", "ray://10.0.0.1:10001", "head", "head:0"])
def test_a_variable_that_is_no_head_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(auto.VARIABLE, given)
    with pytest.raises(ClusterError, match=r"RAY_ADDRESS is .*, and not host:port"):
        located("auto")


@pytest.mark.parametrize(
    ("running", "noted", "expected"),
    [({A}, "", A), ({A}, B, A), ({A, B}, B, B), (set(), A, A)],
    ids=["the only one", "the only living one", "the last one", "one that is hidden"],
)
def test_one_cluster_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: set[str], noted: str, expected: str
) -> None:
    monkeypatch.setattr(auto, "running", lambda: running)
    if noted:
        note(tmp_path, noted)
    assert located("auto") == expected


@pytest.mark.parametrize("noted", ["", "10.0.0.3:6379"])
def test_of_several_none_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: str) -> None:
    monkeypatch.setattr(auto, "running", lambda: {B, A})
    if noted:
        note(tmp_path, noted)
    with pytest.raises(
        ClusterError, match=rf"2 Ray clusters .* \({A}, {B}\); write .* `address: {A}`, or set RAY_ADDRESS"
    ):
        located("auto")


def test_without_one_it_says_what_to_do() -> None:
    with pytest.raises(ClusterError, match=r"no Ray cluster runs on this machine .*`ray start --head`, or write"):
        located("auto")


def test_nodes_of_other_launches_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def __init__(self, name: str, *arguments: str) -> None:
            self._name, self._arguments = name, [name, *arguments]

        def name(self) -> str:
            return self._name

        def cmdline(self) -> list[str]:
            if self._name == "gone":
                raise psutil.NoSuchProcess(1)
            return self._arguments

    processes = [
        Process("raylet", f"--gcs-address={A}", "--session-dir=/tmp/ray/session_1"),
        Process("raylet", f"--gcs-address={A}"),
        Process("raylet", f"--gcs-address={B}", "--session-dir=/tmp/robustsearch-12345678/r/session_1"),
        Process("python", "--gcs-address=10.0.0.9:1"),
        Process("gone"),
    ]
    monkeypatch.undo()
    monkeypatch.setattr(psutil, "process_iter", lambda: processes)
    assert auto.running() == {A}


@pytest.mark.parametrize(
    ("text", "parts"),
    [(A, ("10.0.0.1", 6379)), ("head:1", ("head", 1)), (":6379", None), ("head", None), ("h:65536", None), ("", None)],
)
def test_an_address_has_a_host_and_a_port(text: str, parts: tuple[str, int] | None) -> None:
    assert host_and_port(text) == parts
