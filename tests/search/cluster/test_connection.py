"""Waiting for nodes and asking for them, with nodes that the test makes; integration tests have real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search.cluster import autoscaler, connection
from search.cluster.base import ClusterError
from search.cluster.capacity import Node
from search.cluster.connection import RayConnection, session_finding
from search.cluster.spec import Address, Local

Connect = Callable[..., RayConnection]


class Machine:
    """What the cluster has, look by look, and what was asked of its autoscaler. A number is a node's cores."""

    def __init__(self) -> None:
        self.looks: Iterator[list[int]] = iter(())
        self.last: list[int] = []
        self.asked: list[int] = []
        self.refused = False

    def living(self) -> list[Node]:
        self.last = next(self.looks, self.last)
        return [Node(f"id{at}", f"host{at}", {"CPU": cpus}) for at, cpus in enumerate(self.last)]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()

    class Refusals:
        def found(self) -> bool:
            return made.refused

    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(connection, "_living", made.living)
    monkeypatch.setattr(autoscaler, "request", lambda trial, count: made.asked.append(count))
    monkeypatch.setattr(autoscaler, "Refusals", Refusals)
    return made


@pytest.fixture
def connect(machine: Machine) -> Connect:
    def connect(*looks: list[int], **fields: object) -> RayConnection:
        machine.looks = iter(looks)
        return RayConnection(Address.model_validate(fields), "", lambda: True)

    return connect


def no() -> bool:
    return False


def test_room_that_is_there_is_not_waited_for(connect: Connect, machine: Machine) -> None:
    said: list[str] = []
    found = connect([2, 4])
    assert found.wait_for_room(0.0, cancelled=no, say=said.append)
    assert (found.capacity, found.nodes, said) == (6, 2, [])
    assert found.fits_now(1) is None
    found.release()
    assert machine.asked == [], "a cluster that stays as it is has no autoscaler to ask"


def test_it_waits_until_all_nodes_are_alive(connect: Connect) -> None:
    said: list[str] = []
    found = connect([], [2], [2, 2], [2, 2, 2], nodes=3, start_timeout=50)
    assert found.wait_for_room(0.0, cancelled=no, say=said.append)
    assert (found.capacity, found.nodes) == (6, 3)
    assert said == ["waiting up to 50 s: 0 of 3 nodes are alive"]


def test_the_time_that_was_given_holds_where_it_is_longer(connect: Connect) -> None:
    said: list[str] = []
    found = connect([1], [4], cpus_per_trial=4)
    assert found.wait_for_room(20.0, cancelled=no, say=said.append)
    assert said == ["waiting up to 20 s: no node has what one trial asks for (4 CPU); the nodes have: 1 CPU, 0 GPU"]


@pytest.mark.parametrize(
    ("fields", "wait", "message"),
    [
        ({"nodes": 2, "start_timeout": 0.01}, 0.0, "1 of 2 nodes is alive; waited 0.01 s$"),
        ({"cpus_per_trial": 2}, 0.02, "the nodes have: 1 CPU, 0 GPU; waited 0.02 s$"),
        ({"concurrency": 2}, 0.0, r"concurrency 2 does not fit: .* on: 1 CPU, 0 GPU$"),
    ],
)
def test_the_end_of_the_time_is_said(connect: Connect, fields: dict[str, object], wait: float, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        connect([1], **fields).wait_for_room(wait, cancelled=no, say=print)


def test_this_machine_is_not_waited_for(machine: Machine) -> None:
    machine.last = [1]
    with pytest.raises(ClusterError, match=r"no node has .* \(2 CPU\); the nodes have: 1 CPU, 0 GPU$"):
        RayConnection(Local(cpus_per_trial=2), "", lambda: True).wait_for_room(1000.0, cancelled=no, say=print)


def test_a_cluster_that_died_is_asked_for_nothing(machine: Machine) -> None:
    machine.last = [1]
    found = RayConnection(Address(max_concurrency=2), "", lambda: False)
    assert found.wait_for_room(0.0, cancelled=no, say=print)
    found.release()
    assert machine.asked == [2]


def test_a_launch_that_is_cancelled_waits_no_longer(connect: Connect) -> None:
    assert not connect([1], nodes=2).wait_for_room(0.0, cancelled=lambda: True, say=print)
    assert not connect([1]).wait_for_room(0.0, cancelled=lambda: True, say=print)


def test_a_cluster_that_grows_is_asked_for_one_trial_and_then_for_all(
    connect: Connect, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = connect([], [], [1], max_concurrency=4)
    assert found.wait_for_room(0.0, cancelled=no, say=print)
    assert (found.capacity, machine.asked) == (4, [1, 4])
    machine.last = [1, 1, 1]
    assert found.fits_now(9) == 1, "it is counted every ten seconds"
    monkeypatch.setattr(autoscaler, "READ_AGAIN_SECONDS", 0.0)
    assert (found.fits_now(9), found.nodes, machine.asked) == (3, 3, [1, 4])
    assert (found.fits_now(2), machine.asked) == (3, [1, 4, 2])
    found.release()
    found.release()
    assert machine.asked == [1, 4, 2, 0]


def test_what_no_type_of_node_has_is_refused_and_asked_for_no_more(connect: Connect, machine: Machine) -> None:
    machine.refused = True
    found = connect([], [], max_concurrency=4, gpus_per_trial=1)
    with pytest.raises(ClusterError, match=r"no type of node that the autoscaler starts has .* \(1 CPU, 1 GPU\)"):
        found.wait_for_room(0.0, cancelled=no, say=print)
    found.release()
    assert machine.asked == [1, 0]


def test_doctor_says_what_a_launch_would_wait_for(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_session_folder", lambda: tmp_path)
    cases: list[tuple[str, str, dict[str, object]]] = [
        ("ok", "the Ray cluster at auto answers: 1 node, room for 2 trials at once", {}),
        ("fail", "no node has what one trial asks for (3 CPU); the nodes have: 2 CPU, 0 GPU", {"cpus_per_trial": 3}),
        ("warn", "1 of 2 nodes is alive; a launch waits up to 600 s for it", {"nodes": 2}),
    ]
    for level, message, fields in cases:
        first, _ = connect([2], **fields).examine()
        assert (first.level, first.message) == (level, message)


@pytest.mark.parametrize(("outer", "level"), [(0o700, "ok"), (0o755, "warn")])
def test_a_session_folder_that_others_can_change_is_warned_of(tmp_path: Path, outer: int, level: str) -> None:
    for above in tmp_path.parents:
        if above.owner() == tmp_path.owner() and above.name.startswith(("pytest-", "popen-")):
            above.chmod(0o755)
    session = tmp_path / "session_1"
    (session / "runtime_resources").mkdir(parents=True)
    (session / "runtime_resources").chmod(0o777)
    session.chmod(0o755)
    tmp_path.chmod(outer)
    found = session_finding(session)
    assert found.level == level
    assert (f"{session}/runtime_resources can be written by all users (mode 777)" in found.message) == (level == "warn")


def test_a_failed_task_is_told_by_its_own_error() -> None:
    from ray.exceptions import RayTaskError

    error = RayTaskError("probe", "Traceback\n  File 'probe.py'\n  import torch", OSError("disk full"))
    assert connection._reason(error) == "OSError: disk full"
    assert connection._reason(ConnectionError("no answer")) == "no answer"


class Starting:
    """A dashboard that has an address at the third look."""

    def __init__(self, address: str) -> None:
        self.found = iter([None, None, address])
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    def address(self) -> str | None:
        assert self.begun == 1
        return next(self.found)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:8265", "Ray dashboard: http://127.0.0.1:8265"),
        ("", "caution: the Ray dashboard did not start, and the search goes on without it"),
    ],
)
def test_each_view_is_said_once_and_the_dashboard_starts_at_the_second_call(
    monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(connection.ray_start, "Dashboard", Starting)
    starting = Starting(address)
    found = RayConnection(Local(), starting, lambda: True)  # type: ignore[arg-type]
    found.metrics = "http://127.0.0.1:1/metrics"
    assert list(found.views()) == ["metrics for Prometheus: http://127.0.0.1:1/metrics"]
    assert starting.begun == 0
    assert list(found.views()) == list(found.views()) == []
    assert list(found.views()) == [said]
    assert list(found.views()) == []


def test_a_dashboard_that_runs_is_said_at_once() -> None:
    found = RayConnection(Address(), "10.0.0.1:8265", lambda: True)
    assert [view.partition(";")[0] for view in found.views()] == ["Ray dashboard: http://10.0.0.1:8265"]
    assert list(RayConnection(Address(), "", lambda: True).views()) == []


def test_a_local_ray_prestarts_a_worker_for_each_trial_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert Local().prestarted() == 8
    assert Local(cpus=1000).prestarted() == 16
    assert Local(cpus=2).prestarted() == 2
    assert Local(cpus=7, cpus_per_trial=2).prestarted() == 3
    assert Local(concurrency=3).prestarted() == 3
    assert Local(gpus=1, gpus_per_trial=0.25).prestarted() == 4
