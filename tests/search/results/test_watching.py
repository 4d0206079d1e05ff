"""A study as somebody watches it, from before its launch to after its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.launch.driver import Driver
from search.results.watching import Watched
from search.store import driver_lock
from search.store.records import Records
from search.study.spec import Budget
from tests.object_server import ObjectServer
from tests.search.factories import FINGERPRINT, finish, point, sparsity_records, study_spec
from trainables.core.errors import RobustsearchError, SpecError
from trainables.store import paths
from trainables.store.storage import Storage


def test_a_study_is_seen_from_before_its_launch_to_its_end(tmp_path: Path) -> None:
    watched = Watched(Storage(str(tmp_path)), "mine")
    seen = watched.look()
    assert (seen.snapshot, seen.over) == (None, False)
    assert "was not launched yet" in seen.note
    with driver_lock.acquire(tmp_path_storage := Storage(str(tmp_path / "mine"))):
        assert "mine is being launched by process" in watched.look().note
        sparsity_records(tmp_path / "mine", name="mine")
        seen = watched.look()
        assert seen.snapshot is not None
        assert (seen.snapshot.study, seen.snapshot.to_come, seen.over, seen.note) == ("mine", 4, False, "")
        content = json.loads(tmp_path_storage.read(paths.DRIVER))
    seen = watched.look()
    assert seen.over
    assert seen.note.startswith(
        "no launch is running (4 to come); `robustsearch launch` with the same study resumes it"
    )
    (tmp_path / "mine" / paths.DRIVER).write_text(json.dumps({**content, "process_started": -1.0}))
    seen = watched.look()
    assert seen.over
    assert seen.note.startswith("the launch was killed: process ")
    assert "no longer runs; `robustsearch launch`" in seen.note


def test_a_complete_search_says_so(tmp_path: Path) -> None:
    driver = Driver(sparsity_records(tmp_path / "mine", budget={"trials": 1}))
    driver.next()
    finish(driver, 0, point())
    watched = Watched(Storage(str(tmp_path)), "mine")
    seen = watched.look()
    assert (seen.over, seen.note) == (True, "the search is complete: 1 trial ended")
    driver.records.replace_spec(driver.spec.model_copy(update={"budget": Budget(trials=3)}))
    seen = watched.look()
    assert seen.snapshot is not None
    assert (seen.snapshot.target, seen.snapshot.to_come) == (3, 2), "a launch may change the budget"


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        Watched(Storage(str(tmp_path)), "../other")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / paths.STUDY).write_text("{")
    with pytest.raises(RobustsearchError):
        Watched(Storage(str(tmp_path)), "mine").look()


def test_an_object_store_is_looked_at_every_few_seconds(
    object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = object_server.storage("runs/study")
    Records.create(storage, study_spec(), FINGERPRINT)
    watched = Watched(storage.parent(), "study")
    seen = watched.look()
    object_server.requests.clear()
    assert watched.look() is seen
    assert object_server.requests == []
    watched.look(fresh=True)
    assert 0 < len(object_server.requests) < 8
    monkeypatch.setattr("search.results.watching.REMOTE_LOOK_EVERY", 0.0)
    object_server.requests.clear()
    watched.look()
    assert object_server.requests
