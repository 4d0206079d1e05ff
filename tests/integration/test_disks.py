"""Storages that are full, read-only, not shared, or pulled away, on small file systems of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.nodes import Nodes, cluster_file
from search.store import check
from tests.integration.waiting import wait_for
from tests.search import factories
from tests.search.command import run
from trainables.store.storage import Storage

Start = Callable[..., "subprocess.Popen[str]"]
ENDED = 240


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, timeout=30)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place))
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True, timeout=30)


def fill(disk: Path, left: int) -> Path:
    """Leave so many bytes free."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free
    ballast.write_bytes(b"\0" * max(0, free - left))
    return ballast


def outcomes(study: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in study.glob("trials/*/outcome.json")}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(500)
def test_a_full_disk_ends_the_launch_with_everything_valid_and_it_goes_on_when_there_is_room(
    disk: Path, start: Start, study_file: Path
) -> None:
    study = disk / "tiny"
    full = start("launch", str(study_file), "--trials", "30", "--storage", str(disk))
    _, err = full.communicate(timeout=ENDED)
    assert full.returncode == 5, err
    assert "No space left on device" in err.splitlines()[-1]
    assert "Traceback" not in err
    before = outcomes(study)
    assert {json.loads(content)["state"] for content in before.values()} <= {"complete"}, "a full disk is no result"
    assert [fault for fault in check.faults(Storage(str(study))) if not fault.harmless] == []
    mount("-o", "remount,size=64m", str(disk))
    total = str(len(before) + 2)
    again = start("launch", str(study_file), "--trials", total, "--storage", str(disk))
    _, err = again.communicate(timeout=ENDED)
    assert again.returncode == 0, err
    after = outcomes(study)
    assert {name: after[name] for name in before} == before
    assert {json.loads(content)["state"] for content in after.values()} == {"complete"}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(500)
def test_a_storage_that_vanishes_ends_the_launch_and_is_not_made_anew(
    start: Start, study_file: Path, tmp_path: Path
) -> None:
    study = tmp_path / "runs" / "tiny"
    launch = start("launch", str(study_file), "--trials", "500")
    wait_for(lambda: len(outcomes(study)) >= 1, 120)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    _, err = launch.communicate(timeout=ENDED)
    assert launch.returncode == 5, err
    assert str(study) in err.splitlines()[-1]
    assert not list(study.glob("trials/*/*.json")), "no study is begun in its place"
    assert check.faults(Storage(str(tmp_path / "elsewhere" / "tiny"))) is not None


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
    records.issue(factories.trial(2))
    fill(disk, 0)
    write = {
        "outcome.json": lambda: records.write_outcome(factories.outcome(2)),
        "trial.json": lambda: records.issue(factories.trial(3)),
    }[what]
    with pytest.raises(StorageError, match="No space left on device"):
        write()
    (disk / "ballast").unlink()
    assert [fault for fault in check.faults(records.storage) if not fault.harmless] == []
    assert records.unfinished() == [2]
    write()
    assert [fault for fault in check.faults(records.storage) if fault.kind != "gap"] == []


@pytest.mark.slow
def test_a_read_only_storage_is_refused_before_ray_starts(disk: Path, start: Start, study_file: Path) -> None:
    mount("-o", "remount,ro", str(disk))
    launch = start("launch", str(study_file), "--storage", str(disk / "runs"))
    _, err = launch.communicate(timeout=ENDED)
    assert launch.returncode == 5, err
    assert str(disk) in err.splitlines()[-1]
    assert "dashboard" not in err


@pytest.fixture
def lonely(tmp_path: Path, disk: Path, short_folder: Path) -> Iterator[Nodes]:
    """A cluster whose head runs no trials, and whose other node has a directory of its own where the storage is."""
    nodes = Nodes(short_folder, sys.executable, nodes=1, cpus=0)
    storage = tmp_path / "runs"
    storage.mkdir()
    hidden = f'mount -t tmpfs tmpfs {storage}; exec "$@"'
    nodes.add("unshare", "--mount", "sh", "-c", hidden, "sh", cpus=1)
    yield nodes
    nodes.close()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_node_that_does_not_share_the_storage_is_found_before_the_first_trial(
    lonely: Nodes, start: Start, study_file: Path, tmp_path: Path
) -> None:
    launch = start("launch", str(study_file), "--cluster", cluster_file(tmp_path, lonely))
    _, err = launch.communicate(timeout=ENDED)
    assert launch.returncode == 6, err
    assert "is not the directory that the launch writes to" in err.splitlines()[-1]
    assert not (tmp_path / "runs" / "tiny").exists()
