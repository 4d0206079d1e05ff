"""The token of local Rays, and which of several tokens is taken."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from search.cluster.address import Address
from search.cluster.base import ClusterError
from search.cluster.tokens import local_token, use_local_token


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    return tmp_path


def test_a_token_is_made_once_and_readable_by_its_owner_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use_local_token()
    made = local_token()
    content = made.read_text()
    assert len(content) == 64
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "")
    use_local_token()
    assert made.read_text() == content


def test_a_token_that_others_can_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use_local_token()
    local_token().chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "")
    with pytest.raises(ClusterError, match=r"other users can read .*ray_token.*; delete it"):
        use_local_token()


def test_a_token_that_the_cluster_file_names_goes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named"
    named.write_text("secret\n")
    named.chmod(0o600)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    here = Address(address="10.0.0.1:6379")
    for cluster, found in [(here, "from RAY_AUTH_TOKEN"), (here.model_copy(update={"token_file": str(named)}), named)]:
        finding = next(iter(cluster.examine()))
        assert (finding.level, finding.message.removesuffix(", mode 600")) == ("ok", str(found))
        cluster.authenticate()
        assert os.environ["RAY_AUTH_MODE"] == "token"
    # Ray looks for the token itself before it looks for a file.
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(named)
