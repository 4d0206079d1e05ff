"""What is made of the answers of several nodes; that nodes are asked is a matter of the integration tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from search.cluster import probing
from search.cluster.base import ClusterError, ProbeRequest
from search.cluster.capacity import Node
from search.cluster.probing import Prober, agreed, check_device, check_version, explain_death, shared, task_options
from search.cluster.spec import Address
from trainables import __version__
from trainables.store import paths
from trainables.store.storage import Storage


def found(**changes: Any) -> dict[str, Any]:
    """What a probe finds."""
    return {
        "host": "one",
        "device": "cpu",
        "precision": "fp32",
        "sparse": True,
        "fingerprint": "f" * 64,
        "split_hash": "5" * 64,
        "versions": {"robustsearch": __version__, "torch": "2.11"},
        **changes,
    }


def test_sparse_matrices_are_faster_where_they_are_on_every_node() -> None:
    said: list[str] = []
    assert not agreed([(found(), 1), (found(host="two", sparse=False), 1)], said.append)["sparse"]
    assert not said


def test_nodes_that_agree_are_not_mentioned() -> None:
    said: list[str] = []
    first = found()
    assert agreed([(first, 2), (found(host="two"), 1)], said.append) == first
    assert said == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fingerprint": "a" * 64},
            "the training data differ: ffffffffffff on one, aaaaaaaaaaaa on two; give every node",
        ),
        ({"split_hash": "a" * 64}, "the validation splits differ: 555555555555 on one, aaaaaaaaaaaa on two"),
        (
            {"precision": "bf16", "device": "NVIDIA A100"},
            r"precision auto is fp32 on one \(cpu\) and bf16 on two \(NVIDIA A100\); write one as recipe",
        ),
    ],
)
def test_nodes_that_would_measure_something_else_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        agreed([(found(), 1), (found(), 1), (found(host="two", **changes), 1)], print)


def test_other_devices_and_versions_are_said() -> None:
    said: list[str] = []
    other = found(
        host="two", device="NVIDIA T4", versions={"robustsearch": __version__, "torch": "2.12", "ray": "2.60"}
    )
    agreed([(found(), 1), (other, 3)], said.append)
    assert said == [
        "caution: versions differ between one and two: ray none and 2.60, torch 2.11 and 2.12; the same trial may give "
        "other numbers there",
        "trials run on different devices: cpu on 1 node, NVIDIA T4 on 3 nodes; their times differ, and so may the last "
        "digits of results",
    ]


def test_another_version_of_this_project_is_refused() -> None:
    check_version({"robustsearch": __version__}, "one")
    with pytest.raises(ClusterError, match=r"workers have robustsearch 0\.0\.1 on two, this is .*`code: ship`"):
        check_version({"robustsearch": "0.0.1"}, "two")


def test_a_worker_that_sees_no_gpu_is_refused_where_a_trial_asks_for_one() -> None:
    check_device(found(), 0.0)
    check_device(found(device="NVIDIA A100-SXM4-40GB MIG 1g.5gb"), 1.0)
    with pytest.raises(ClusterError, match=r"asks for 0\.5 GPUs, but torch 2\.11 sees none on one; install a build"):
        check_device(found(), 0.5)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(probing, "MARK_SECONDS", 0.3)
    (tmp_path / paths.DRIVER).write_text('{"token": "abc"}')
    return Storage(str(tmp_path))


def test_marks_of_nodes_are_seen_and_deleted(storage: Storage, tmp_path: Path) -> None:
    for mark in ("probe-1", "probe-2"):
        storage.write(mark, b"")
    shared(storage, {name: {"token": "abc", "mark": f"probe-{name}"} for name in "12"})
    assert [path.name for path in tmp_path.iterdir()] == [paths.DRIVER]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("survey", "message"),
    [
        ({"token": None, "mark": None}, "is not the directory that the launch writes to: it has no driver.json; mount"),
        ({"token": "of an older launch", "mark": "probe-2"}, "it has other files"),
        ({"token": "abc", "mark": "probe-that never came"}, "it has other files"),
        ({"token": None, "mark": None, "error": "no permission"}, "no permission"),
    ],
)
def test_a_node_with_another_storage_is_named(storage: Storage, survey: dict[str, Any], message: str) -> None:
    for mark in ("probe-1", "probe-2"):
        storage.write(mark, b"")
    with pytest.raises(ClusterError, match=f"on two: .*{message}"):
        shared(storage, {"one": {"token": "abc", "mark": "probe-1"}, "two": survey})


def test_a_task_asks_for_the_resources_of_a_trial() -> None:
    assert task_options(Address(cpus_per_trial=2)) == {"num_cpus": 2, "max_retries": 0}
    full = Address(gpus_per_trial=0.5, accelerator="A100")
    expected = {"num_cpus": 1, "num_gpus": 0.5, "max_retries": 0, "resources": {"accelerator_type:A100": 0.001}}
    assert task_options(full) == expected


@pytest.mark.parametrize(("kind", "code"), [("crashed", 6), ("timeout", 2)])
def test_the_death_of_a_probe_is_explained_by_its_supervisor(storage: Storage, kind: str, code: int) -> None:
    storage.write("probe-report", json.dumps({"kind": kind, "message": "it hung"}).encode())
    with pytest.raises(ClusterError, match="it hung") as raised:
        explain_death(storage, "probe-report")
    assert raised.value.exit_code == code
    assert not storage.exists("probe-report")


def test_a_probe_that_left_no_report_is_not_explained(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "REPORT_SECONDS", 0.2)
    explain_death(storage, "probe-report")


class Nodes:
    """Nodes of which each answers a survey and a probe, as Ray would run the tasks: by resources, or on one node."""

    def __init__(self, storage: Storage, *kinds: tuple[int, dict[str, Any]]) -> None:
        self.nodes = [Node(f"{at + 1:056x}", f"host{at}", {"CPU": cpus}) for at, (cpus, _) in enumerate(kinds)]
        self.answers = {
            node.id: found(host=node.host) | changes for node, (_, changes) in zip(self.nodes, kinds, strict=True)
        }
        self.dead: set[str] = set()
        self.dying: set[str] = set()
        self.ran: list[tuple[str, str, float]] = []
        self._hosts = {node.id: node.host for node in self.nodes}
        self._storage = storage

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        strategy = options.get("scheduling_strategy")
        node = strategy.node_id if strategy is not None else self.nodes[0].id

        def run(name: str) -> Callable[..., Any]:
            def task(*arguments: Any, **named: Any) -> tuple[str, str]:
                self.ran.append((name, self._hosts[node], options["num_cpus"]))
                return name, node

            return task

        return lambda function: SimpleNamespace(remote=run(function.__name__))

    def get(self, task: tuple[str, str]) -> Any:
        name, node = task
        if self._hosts[node] in self.dead:
            raise ray.exceptions.RaySystemError("the node died")
        if name == "probe" and self._hosts[node] in self.dying:
            raise ray.exceptions.NodeDiedError("the node died, and is still listed as alive")
        if name == "probe":
            return self.answers[node]
        self._storage.write(mark := f"{paths.PROBE}{node}", b"")
        return {"versions": self.answers[node]["versions"], "token": "abc", "mark": mark}

    def known(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": node.id, "Alive": node.host not in self.dead, "Resources": node.resources} for node in self.nodes
        ]


Probe = Callable[..., tuple[Any, Nodes, list[str]]]


@pytest.fixture
def probe(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Probe nodes, each given by its cores and what its answer is beside the usual one."""

    def probe(
        *kinds: tuple[int, dict[str, Any]], dead: str = "", dying: Iterable[str] = (), **fields: Any
    ) -> tuple[Any, Nodes, list[str]]:
        nodes, said = Nodes(storage, *kinds), list[str]()
        nodes.dead, nodes.dying = {dead}, set(dying)
        monkeypatch.setattr(ray, "remote", nodes.remote)
        monkeypatch.setattr(ray, "get", nodes.get)
        monkeypatch.setattr(ray, "wait", lambda tasks, **_: (tasks, []))
        monkeypatch.setattr(ray, "nodes", nodes.known)
        asked = ProbeRequest({}, [], storage.location, (), "auto")
        prober = Prober(Address.model_validate(fields), asked, lambda: False, said.append, str)
        return prober.found(nodes.nodes), nodes, said

    return probe


def test_the_only_node_with_room_is_probed_wherever_ray_finds_it(probe: Probe) -> None:
    answer, nodes, said = probe((4, {}), (1, {}), cpus_per_trial=2)
    assert (answer["host"], nodes.ran, said) == ("host0", [("probe", "host0", 2)], [])


def test_every_node_is_asked_and_one_of_each_kind_probed(probe: Probe, storage: Storage) -> None:
    other = {"versions": {"robustsearch": __version__, "torch": "2.12"}}
    answer, nodes, said = probe((4, {}), (4, {}), (8, {"device": "NVIDIA T4"}), (4, other), (0, {}))
    assert answer["host"] == "host0"
    assert nodes.ran == [
        *(("survey", f"host{at}", 0) for at in range(4)),
        *(("probe", f"host{at}", 1) for at in (0, 2, 3)),
    ]
    assert said[0] == "probing a node of each of 3 kinds"
    assert [line.partition(":")[0] for line in said[1:]] == [
        "caution",
        "trials run on different devices",
    ]
    assert "cpu on 3 nodes, NVIDIA T4 on 1 node" in said[2]
    assert storage.names("") == [paths.DRIVER]


def test_a_node_that_dies_meanwhile_is_left_out_and_one_that_lives_is_not(probe: Probe) -> None:
    answer, nodes, _ = probe((4, {}), (8, {}), dead="host1")
    assert (answer["host"], nodes.ran[-1]) == ("host0", ("probe", "host0", 1))
    answer, nodes, _ = probe((4, {}), (4, {}), dead="host0")
    assert (answer["host"], nodes.ran[-1]) == ("host1", ("probe", "host1", 1))


def test_another_node_of_the_kind_is_probed_where_one_dies_in_the_probe(probe: Probe) -> None:
    answer, nodes, _ = probe((4, {}), (4, {}), (8, {}), (4, {}), dying=["host0", "host1"])
    assert answer["host"] == "host3"
    assert [ran for ran in nodes.ran if ran[0] == "probe"] == [
        ("probe", host, 1) for host in ("host0", "host2", "host1", "host3")
    ]


def test_a_launch_ends_where_all_nodes_die_while_they_are_probed(probe: Probe) -> None:
    with pytest.raises(ClusterError, match="all nodes died while they were probed"):
        probe((4, {}), (8, {}), dying=["host0", "host1"])


def test_what_a_node_refuses_ends_the_launch(probe: Probe) -> None:
    with pytest.raises(ClusterError, match="on host1: no such data") as raised:
        probe((4, {}), (8, {"error": "on host1: no such data", "exit_code": 2}))
    assert raised.value.exit_code == 2
