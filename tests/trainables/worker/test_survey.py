"""What a node says of itself before any is probed, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.core.versions import versions
from trainables.store import paths
from trainables.worker.survey import survey


def test_a_node_that_shares_the_storage_reads_the_lease_and_leaves_a_mark(tmp_path: Path) -> None:
    (tmp_path / paths.DRIVER).write_text('{"token": "abc"}')
    found = survey(str(tmp_path))
    assert json.loads(json.dumps(found)) == found, "it travels as plain data"
    assert (found["token"], found["versions"]) == ("abc", versions())
    assert (tmp_path / found["mark"]).read_bytes() == b""
    assert survey(str(tmp_path))["mark"] != found["mark"]


@pytest.mark.parametrize("missing", ["other", "nothing/at/all"])
def test_a_node_without_it_leaves_nothing(tmp_path: Path, missing: str) -> None:
    (tmp_path / "other").mkdir()
    assert survey(str(tmp_path / missing)) == {"versions": versions(), "token": None, "mark": None}
    assert [path.name for path in tmp_path.rglob("*")] == ["other"]


def test_a_damaged_lease_is_said(tmp_path: Path) -> None:
    (tmp_path / paths.DRIVER).write_text("{")
    assert "Expecting" in survey(str(tmp_path))["error"]


def test_it_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys; from trainables.worker.survey import survey; survey(sys.argv[1]); exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[3])
