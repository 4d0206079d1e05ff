"""How many trials fit on nodes, and what is said where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from search.cluster.base import ClusterError
from search.cluster.capacity import Node, capacity, living, offered, room
from search.cluster.spec import Address, Local


def nodes(*resources: dict[str, float]) -> list[Node]:
    return [Node(f"id{at}", f"host{at}", each) for at, each in enumerate(resources)]


@pytest.mark.parametrize(
    ("fields", "given", "fits"),
    [
        ({}, [{"CPU": 4}], 4),
        ({"cpus_per_trial": 3}, [{"CPU": 4}, {"CPU": 8}], 3),
        ({"gpus_per_trial": 0.25}, [{"CPU": 16, "GPU": 2}], 8),
        ({"gpus_per_trial": 0.3}, [{"CPU": 16, "GPU": 2}], 6),
        ({"gpus_per_trial": 2}, [{"CPU": 16, "GPU": 3}, {"CPU": 16}], 1),
        ({"gpus_per_trial": 0.5, "cpus_per_trial": 4}, [{"CPU": 8, "GPU": 8}], 2),
        ({"concurrency": 2}, [{"CPU": 4}], 2),
        (
            {"accelerator": "A100", "gpus_per_trial": 0.5},
            [{"CPU": 9, "GPU": 2, "accelerator_type:A100": 1}, {"CPU": 9, "GPU": 2, "accelerator_type:T4": 1}],
            4,
        ),
    ],
)
def test_capacity_counts_what_fits_on_whole_nodes_and_whole_gpus(
    fields: dict[str, Any], given: list[dict[str, float]], fits: int
) -> None:
    assert capacity(Local.model_validate(fields), nodes(*given)) == fits


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gpus_per_trial": 8}, r"no node has what one trial asks for \(1 CPU, 8 GPU\); the nodes have: 4 CPU, 4 GPU"),
        ({"gpus_per_trial": 0.3, "concurrency": 16}, "concurrency 16 does not fit: .* 4 run at once"),
        ({"cpus_per_trial": 5}, "no node has"),
        (
            {"accelerator": "A100", "gpus_per_trial": 1},
            r"no node has what one trial asks for \(1 CPU, 1 GPU of type A100\); the nodes have: 4 CPU, 4 GPU$",
        ),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        capacity(Local.model_validate(fields), nodes({"CPU": 4, "GPU": 4}))


def test_nodes_are_described_by_kind_and_equal_ones_once() -> None:
    big: dict[str, float] = {"CPU": 8, "GPU": 2, "accelerator_type:A100": 1, "memory": 1e9}
    found = offered(nodes(big, {"CPU": 4}, {**big, "memory": 2e9}))
    assert found == "2 times 8 CPU, 2 GPU of type A100; 4 CPU, 0 GPU"


def test_room_does_not_depend_on_the_concurrency() -> None:
    assert room(Address(concurrency=1), nodes({"CPU": 4}, {"CPU": 2})) == 6
    assert room(Address(max_concurrency=9), nodes()) == 0


def test_nodes_of_one_kind_have_one_signature() -> None:
    def known(name: str, *, alive: bool = True, group: str = "", **resources: float) -> dict[str, Any]:
        own = {f"node:{name}": 1.0, "memory": 1e9 + len(name), "object_store_memory": 7.0}
        labels = {"ray.io/node-group": group, "ray.io/node-id": name}
        described = {"NodeID": name, "Alive": alive, "NodeManagerHostname": f"host-{name}", "Labels": labels}
        return {**described, "Resources": {**own, **resources}}

    found = living(
        [known("a", CPU=4), known("bb", CPU=4), known("c", alive=False, CPU=4), known("d", CPU=4, group="spot")]
    )
    assert [node.host for node in found] == ["host-a", "host-bb", "host-d"]
    assert found[0].signature == found[1].signature
    assert found[0].signature != found[2].signature
    assert living([known("a", CPU=4, GPU=1)])[0].signature != found[0].signature
