"""What killed processes left in a storage goes; what a living one writes stays."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from search.launch import api
from search.store import leftovers
from search.store.records import Records
from tests.search import factories
from tests.search.command import run
from tests.search.tiny import FIELDS as TINY
from trainables.store import lease, paths
from trainables.store.lease import Holder
from trainables.store.storage import Storage

KEY = "ab" * 32


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """A study with what killed processes left."""
    records = factories.make_study(tmp_path / "runs/synthetic", 2)
    plant(tmp_path / "runs/synthetic")
    return records


def plant(study: Path) -> None:
    """Leave what a killed driver and a killed worker leave."""
    root = Storage(str(study.parent))
    (study / paths.stage(KEY)).mkdir(parents=True)
    for name in ("trials/00000/outcome.json.0123.tmp", f"{paths.stage(KEY)}/state.safetensors.0123.tmp"):
        (study / name).write_text("half a fi")
    for name in ("study.yaml.0123.tmp", "probe-0123", "driver.json.0123.taken"):
        (study / name).write_text("")
        os.utime(study / name, (time.time() - 3600,) * 2)
    dead = replace(Holder.here(), pid=2**22 + 1)
    root.write(paths.stage_lease("dead"), lease._content(dead))
    root.write(paths.stage_lease("living"), lease._content(Holder.here()))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def litter(root: Path) -> set[str]:
    return {name for name in files(root) if any(part in name for part in (".tmp", ".taken", "probe-", "dead"))}


def test_what_killed_processes_left_goes_and_nothing_else(records: Records, tmp_path: Path) -> None:
    before, found = files(tmp_path), litter(tmp_path)
    assert len(found) == 6
    (tmp_path / "runs/synthetic/stop.request.0123.tmp").write_text("being written")
    leftovers.sweep(records.storage)
    assert files(tmp_path) == before - found | {"runs/synthetic/stop.request.0123.tmp"}


def test_gc_removes_them_too_but_not_when_it_only_says_what_it_would_do(records: Records, tmp_path: Path) -> None:
    for more, left in (("--dry-run",), 6), ((), 0):
        assert run("gc", "synthetic", "--storage", tmp_path / "runs", *more).exit_code == 0
        assert len(litter(tmp_path)) == left


@pytest.mark.slow
def test_a_launch_removes_what_an_earlier_one_left(tmp_path: Path) -> None:
    for trials in (1, 2):
        api.launch(TINY, cluster="inline", storage=tmp_path / "runs", trials=trials, quiet=True)
        assert litter(tmp_path) == set()
        plant(tmp_path / "runs/tiny")
        (tmp_path / "runs/tiny" / paths.stage(KEY)).rename(tmp_path / "runs/tiny/stages" / f"{trials:064}")


def test_links_are_not_followed(records: Records, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    for name in ("a.0123.tmp", "b.json"):
        (tmp_path / "outside" / name).write_text("{}")
        os.utime(tmp_path / "outside" / name, (0, 0))
    (tmp_path / "runs/synthetic/stages/linked").symlink_to(tmp_path / "outside")
    for path in (tmp_path / "runs" / paths.STAGE_LEASES).iterdir():
        path.unlink()
    (tmp_path / "runs" / paths.STAGE_LEASES).rmdir()
    (tmp_path / "runs" / paths.STAGE_LEASES).symlink_to(tmp_path / "outside")
    leftovers.sweep(records.storage)
    assert files(tmp_path / "outside") == {"a.0123.tmp", "b.json"}
