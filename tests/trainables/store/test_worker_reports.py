from __future__ import annotations

from pathlib import Path

import pytest

from trainables.store import worker_reports
from trainables.store.records import Failure
from trainables.store.storage import Storage

REPORT = Failure(kind="oom", message="its worker process died")


def test_a_report_is_returned_once(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write("report", REPORT.json_bytes())
    assert worker_reports.take(storage, "report") == REPORT
    assert worker_reports.take(storage, "report") is None


def test_a_report_that_comes_later_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))
    monkeypatch.setattr(worker_reports.time, "sleep", lambda _: storage.write("report", REPORT.json_bytes()))
    assert worker_reports.take(storage, "report", wait=3600) == REPORT


def test_an_unreadable_report_is_deleted(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write("report", b"{")
    assert worker_reports.take(storage, "report", wait=3600) is None
    assert not storage.exists("report")
