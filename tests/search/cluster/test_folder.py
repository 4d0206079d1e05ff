"""The private folder of a launch: its mode, its end, and those that killed launches leave."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from search.cluster import folder
from search.cluster.base import ClusterError
from search.cluster.folder import launch_folder


@pytest.fixture
def root(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    return short_path


def test_a_launch_has_a_folder_of_its_own_which_goes_with_it(root: Path) -> None:
    os.umask(old := os.umask(0))
    with launch_folder() as first, launch_folder() as second:
        assert first != second
        assert stat.S_IMODE(first.stat().st_mode) == 0o700
        assert folder.dead(root) == []
        (first / "session").mkdir()
    assert os.listdir(root) == []
    os.umask(old)


def test_a_failed_launch_leaves_no_folder(root: Path) -> None:
    with pytest.raises(ZeroDivisionError), launch_folder():
        _ = 1 / 0
    assert os.listdir(root) == []


HOLD = "from search.cluster.folder import launch_folder\nwith launch_folder() as f: print(f, flush=True); input()"


def test_the_next_launch_removes_what_killed_ones_left_and_spares_living_ones(root: Path) -> None:
    def begin() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "TMPDIR": str(root)},
        )
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    (living, used), (killed, left) = begin(), begin()
    killed.kill()
    killed.communicate()
    strange = root / f"{folder.PREFIX}notes"
    strange.mkdir()
    (strange / "mine.txt").touch()
    (root / f"{folder.PREFIX}link").symlink_to(left)
    assert folder.dead(root) == [left]
    with launch_folder():
        assert used.exists()
        assert not left.exists()
        assert (strange / "mine.txt").exists(), "without a lock it is not a launch's"
    living.communicate("\n")
    assert not used.exists()


def test_folders_of_tests_are_short_and_safe_wherever_temporary_files_are(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := tmp_path / ("long" * 30)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    made = request.getfixturevalue("short_path")
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    assert folder.temporary() == made


NEGLIGENT = """
import os, subprocess, sys
started = subprocess.Popen(["sleep", "1000"], env={**os.environ, sys.argv[1]: sys.argv[2]})
print(started.pid, flush=True)
input()
"""


def test_processes_that_nobody_reaps_are_not_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "END_SECONDS", 1e9)
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", NEGLIGENT, folder.VARIABLE, str(root)], **pipes) as parent:
        started = psutil.Process(int(parent.stdout.readline()))
        while not started.environ():  # It has none for a moment after it was started.
            pass
        folder.end_processes(root)
        assert started.status() == psutil.STATUS_ZOMBIE
        parent.communicate("\n")


def test_processes_that_the_ended_ones_had_just_started_end_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**os.environ, folder.VARIABLE: str(root)}
    first, second = (subprocess.Popen(["sleep", "1000"], env=environment) for _ in range(2))
    found = [[psutil.Process(second.pid)], [psutil.Process(first.pid)]]
    monkeypatch.setattr(folder, "_processes", lambda _: found.pop() if found else [])
    folder.end_processes(root)
    assert [first.wait(10), second.wait(10)] == [-9, -9]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_left_alone(root: Path) -> None:
    with launch_folder() as made:
        other = root / f"{folder.PREFIX}other"
        made.rename(other)
        os.chown(other, 4321, 4321)
    assert folder.dead(root) == []
    assert other.exists()


def test_a_folder_for_temporary_files_that_others_can_change_is_refused(root: Path) -> None:
    root.chmod(0o777)
    with pytest.raises(ClusterError, match=f"{root} can be written by all users .mode 777.; let TMPDIR name"):
        folder.temporary()


def test_a_long_path_gives_way_to_a_short_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder.temporary() == root
    monkeypatch.setattr(tempfile, "tempdir", str(root / ("long" * 30)))
    assert folder.temporary() == Path("/tmp")
    inside = f"/tmp/{folder.PREFIX}12345678{folder.LONGEST_SOCKET}"
    assert len(inside) <= folder.SOCKET_BYTES
