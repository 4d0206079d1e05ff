from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.store.modes import changeable
from tests.search import factories
from tests.search.command import run
from trainables.store import paths
from trainables.store.storage import Storage


@pytest.fixture
def study(tmp_path: Path) -> Path:
    before = os.umask(0o022)
    factories.make_study(tmp_path / "runs" / "synthetic", 2)
    os.umask(before)
    return tmp_path / "runs" / "synthetic"


def test_a_new_study_can_be_changed_by_its_user_alone(study: Path) -> None:
    assert changeable(Storage(str(study))) == []


@pytest.mark.parametrize("name", ["", paths.TRIALS, paths.outcome(0), paths.STUDY])
def test_what_other_users_can_write_is_named_by_doctor_and_is_no_damage(study: Path, name: str) -> None:
    (study / name).chmod(0o777)
    (problem,) = changeable(Storage(str(study)))
    assert str(study / name) in problem
    result = run("doctor", "synthetic", COLUMNS="500", ROBUSTSEARCH_STORAGE=str(study.parent))
    assert "can be written by all users (mode 777)" in " ".join(result.stdout.split())
    assert result.exit_code == 0


def test_links_are_not_followed(study: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (study / "link").symlink_to(tmp_path / "open")
    assert changeable(Storage(str(study))) == []
