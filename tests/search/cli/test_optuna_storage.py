from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.search.command import run
from tests.search.factories import make_study


@pytest.mark.slow
def test_the_file_is_named_and_no_other_is_replaced(tmp_path: Path) -> None:
    make_study(tmp_path / "synthetic", 2)
    target = tmp_path / "study.db"
    done = run("optuna", "synthetic", "--storage", tmp_path, "--output", target, "--json")
    assert json.loads(done.stdout) == {"output": str(target), "study": "synthetic"}
    target.write_text("notes")
    refused = run("optuna", "synthetic", "--storage", tmp_path, "--output", target)
    assert (refused.exit_code, target.read_text()) == (2, "notes")
    assert "--force replaces it" in refused.stderr
