from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.cluster.safe_path import safe_path


@pytest.mark.parametrize(
    ("before", "within"),
    [
        (None, None),
        ("", None),
        (":", None),
        (".:./", None),
        ("/x::/y:", "/x:/y"),
        ("lib:/x", "{here}/lib:/x"),
        ("{here}", "{here}"),
    ],
)
def test_the_current_directory_is_on_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, within: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before.format(here=tmp_path))
    untouched = dict(os.environ)
    with safe_path():
        assert os.environ["PYTHONSAFEPATH"] == "1"
        assert os.environ.get("PYTHONPATH") == (within and within.format(here=tmp_path))
    assert dict(os.environ) == untouched


def test_a_process_runs_nothing_of_its_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    for name in ("random", "sitecustomize", "my_module_here"):
        (tmp_path / f"{name}.py").write_text(f"open('{name}.ran', 'w').close()")
    code = "import random\ntry: import my_module_here\nexcept ImportError: print('absent')"
    with safe_path():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "absent\n"
    assert not list(tmp_path.glob("*.ran"))
