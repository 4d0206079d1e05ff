"""What a worker does before its first task, here in this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from trainables.worker import prestart


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / prestart.EMPTY).mkdir()
    (tmp_path / prestart.CODE).mkdir()
    return tmp_path


def test_it_enters_the_empty_directory_and_imports_what_trials_need(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "sent_to_workers", raising=False)
    (folder / prestart.CODE / "sent_to_workers.py").write_text("import os; HERE = os.getcwd()")
    monkeypatch.setattr(prestart, "LOADED", ("sent_to_workers",))
    prestart.prepare(folder)
    assert Path.cwd() == folder / prestart.EMPTY
    assert os.getcwd() == sys.modules.pop("sent_to_workers").HERE


@pytest.mark.parametrize("fault", ["raise OSError('no such library')", "import no_such_module", "1 +"])
def test_what_cannot_be_imported_is_left_to_the_first_task(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    (folder / prestart.CODE / "broken_on_workers.py").write_text(fault)
    (folder / prestart.CODE / "never_reached.py").write_text("")
    monkeypatch.setattr(prestart, "LOADED", ("broken_on_workers", "never_reached"))
    prestart.prepare(folder)
    assert not {"broken_on_workers", "never_reached"} & sys.modules.keys()


def test_what_it_imports_is_there() -> None:
    for name in prestart.LOADED[1:]:
        assert Path(__file__).parents[3].joinpath(*name.split(".")).with_suffix(".py").exists()
