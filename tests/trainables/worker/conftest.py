"""Fixtures of the worker's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    """A study's directory in a storage of its own: studies beside each other share their stages."""
    study = tmp_path / "storage" / "study"
    study.mkdir(parents=True)
    return study
