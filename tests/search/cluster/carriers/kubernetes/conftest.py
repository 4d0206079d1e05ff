"""The stand-in for an API server, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from search.cluster.carriers.kubernetes import carrier
from tests.search.cluster.carriers.kubernetes.server import Server, serving


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A Kubernetes cluster to which the environment leads."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(carrier, "LOOK_SECONDS", 0.01)
    with serving(tmp_path / "kubeconfig") as served:
        yield served
