from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep decoded images away from the user's cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ROBUSTSEARCH_CACHE", str(folder))
    monkeypatch.delenv("ROBUSTSEARCH_DATA", raising=False)
    return folder
