"""Storages that are full or read-only, on small file systems of their own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from search.cluster.local import Local
from search.store import check
from tests.search import factories
from tests.search.command import run


def fill(disk: Path, left: int) -> Path:
    """Leave so many bytes free."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free
    ballast.write_bytes(b"\0" * max(0, free - left))
    return ballast


def test_an_export_to_a_full_disk_leaves_nothing_and_says_so(disk: Path, tmp_path: Path) -> None:
    factories.make_study(tmp_path / "synthetic", 12)
    output = disk / "points.csv"
    output.write_text("an older export")
    fill(disk, 1000)
    result = run("export", "synthetic", "--output", output, ROBUSTSEARCH_STORAGE=str(tmp_path))
    assert result.exit_code == 5
    assert "No space left on device" in result.stderr
    assert sorted(path.name for path in disk.iterdir()) == ["ballast", "points.csv"]
    assert output.read_text() == "an older export"


@pytest.mark.parametrize("what", ["trial.json", "outcome.json"])
def test_a_record_that_finds_no_room_is_absent(disk: Path, what: str) -> None:
    from trainables.core.errors import StorageError

    records = factories.make_study(disk / "synthetic", 2, troubled=False)
    issued = factories.trial(2)
    records.issue(issued)
    points = factories.keyed_points(issued, records.spec)
    fill(disk, 0)
    write = {
        "outcome.json": lambda: records.write_outcome(factories.outcome(2, points)),
        "trial.json": lambda: records.issue(factories.trial(3)),
    }[what]
    with pytest.raises(StorageError, match="No space left on device"):
        write()
    (disk / "ballast").unlink()
    assert [fault for fault in check.faults(records.storage) if not fault.harmless] == []
    assert records.unfinished() == [2]
    write()
    assert [fault for fault in check.faults(records.storage) if fault.kind != "gap"] == []


def test_a_read_only_storage_is_refused_before_ray_starts(
    disk: Path, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Local, "connect", lambda *_: pytest.fail("the storage is looked at first"))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True, timeout=30)
    refused = run("launch", study_file, "--storage", disk / "runs")
    assert refused.exit_code == 5, refused.output
    assert str(disk) in refused.stderr.splitlines()[-1]
