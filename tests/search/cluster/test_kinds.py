"""What every kind of cluster must have, and a new kind as a plug-in would define it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

import search
from search.cluster.base import Cluster, Connection
from search.cluster.inline import Inline, InlineConnection
from search.cluster.spec import CLUSTERS
from tests.search.command import run
from tests.search.tiny import FIELDS as TINY

REQUIRED: dict[str, dict[str, Any]] = {
    "kubernetes": {"image": "r:1", "workers": [{"cpus": 1, "memory": "1Gi", "max": 1}]},
}
"""The fields without which a kind cannot be."""


@pytest.mark.parametrize("kind", CLUSTERS)
def test_a_kind_describes_itself(kind: str) -> None:
    cluster = CLUSTERS[kind].model_validate(REQUIRED.get(kind, {}))
    assert cluster.where()
    assert cluster.opening().endswith(" ...")
    assert cluster.runner in ("tune", "inline")
    assert CLUSTERS[kind].__doc__
    own = CLUSTERS[kind].model_fields
    assert all(field.description for name, field in own.items() if name != "kind")


class Borrowed(Cluster):
    """A process that belongs to `owner`."""

    kind: Literal["borrowed"] = "borrowed"
    owner: str
    runner: ClassVar[Literal["tune", "inline"]] = "inline"
    this_machine: ClassVar[bool] = True

    def where(self) -> str:
        return f"a process of {self.owner}"

    def opening(self) -> str:
        return f"asking {self.owner} ..."

    @contextmanager
    def connect(
        self, code_paths: tuple[str, ...] = (), beside: Callable[[], None] | None = None
    ) -> Iterator[Connection]:
        yield InlineConnection(self.gpus_per_trial)


@pytest.mark.slow
def test_a_new_kind_is_one_class_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CLUSTERS, "_table", dict(CLUSTERS._table))
    CLUSTERS.register("borrowed", Borrowed)
    (tmp_path / "cluster.yaml").write_text("kind: borrowed\nowner: Ada\n")
    planned = run("launch", "--cluster", tmp_path / "cluster.yaml", "--dry-run", "--storage", tmp_path)
    assert "a process of Ada; 1 CPU" in planned.stdout
    cluster: dict[str, Any] = {"kind": "borrowed", "owner": "Ada"}
    study = search.launch(TINY, cluster=cluster, storage=tmp_path / "runs", trials=1, quiet=True)
    assert study.front()


def test_a_kind_that_cannot_connect_is_refused_when_it_is_registered() -> None:
    class Nowhere(Cluster):
        kind: Literal["nowhere"] = "nowhere"

    with pytest.raises(ValueError, match="does not define `connect`, `opening`, `where`"):
        CLUSTERS.register("nowhere", Nowhere)


def test_fields_of_a_kind_are_those_of_the_base_and_its_own() -> None:
    assert Inline.model_fields.keys() == Cluster.model_fields.keys()
