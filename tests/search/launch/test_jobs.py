"""The record of a job: found again, described, stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.cluster.base import ClusterError
from search.cluster.carriers.base import State
from search.launch import jobs
from search.launch.jobs import Job
from search.store import driver_lock
from tests.search.pretend import Pretend, pretend
from trainables.core.errors import SpecError, StorageError
from trainables.store import paths
from trainables.store.storage import Storage

__all__ = ["pretend"]


@pytest.fixture
def study(tmp_path: Path) -> Storage:
    own = Storage(str(tmp_path)).child("tiny")
    Job("p1", 0.0, {"kind": "pretend", "queue": "day"}).write(own)
    return own


def test_a_record_reads_back(study: Storage) -> None:
    assert Job.read(study) == Job("p1", 0.0, {"kind": "pretend", "queue": "day"})
    assert Job.read(study.parent().child("none")) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"id": 1}', '{"id": "1", "submitted": "x", "cluster": {}}'])
def test_a_damaged_record_is_refused(study: Storage, content: str) -> None:
    study.write(paths.JOB, content.encode())
    with pytest.raises(StorageError, match=r"job.json is damaged"):
        Job.read(study)
    found = jobs.described(study)
    assert found is not None
    assert "is damaged" in found["text"]


def test_a_job_that_waits_is_described_with_its_time(study: Storage, pretend: type[Pretend]) -> None:
    job = Job("p1", 0.0, {"kind": "pretend"})
    assert job.waited(State("running", "on n1")) == "running on n1"
    assert job.waited(State("queued", "in queue day")).startswith("queued in queue day, ")
    found = jobs.described(study)
    assert found is not None
    assert found["state"] == {"phase": "queued", "reason": "in queue day", "code": None}
    assert found["text"].startswith("job p1 (pretend): queued in queue day, ")
    assert json.dumps(found)


def test_what_cannot_be_asked_from_here_is_said(
    study: Storage, pretend: type[Pretend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretend, "refusal", "no such program here")
    found = jobs.described(study)
    assert found is not None
    assert found["state"] is None
    assert found["text"] == "job p1 (pretend): its state is unknown here: no such program here"


@pytest.mark.parametrize("cluster", [{"kind": "local"}, {"kind": "of-a-later-version"}, {"kind": "pretend", "new": 1}])
def test_a_record_that_no_kind_here_reads_is_an_error_of_the_cluster(
    study: Storage, pretend: type[Pretend], cluster: dict[str, object]
) -> None:
    with pytest.raises(ClusterError, match="the record of job p1"):
        Job("p1", 0.0, cluster).carrier(study)


def test_a_driver_is_asked_and_its_job_left_to_end_by_itself(study: Storage, pretend: type[Pretend]) -> None:
    pretend.states[:] = [State("running", "on n1")]
    with driver_lock.acquire(study):
        assert "running trials save" in jobs.stop(study, "tiny")["message"]
        assert driver_lock.stop_requested(study)
        assert not pretend.did
        said = jobs.stop(study, "tiny", now=True)["message"]
    assert pretend.did == ["cancel p1"]
    assert "asked" in said
    assert "cancelled job p1 (pretend), which was running on n1" in said


def test_the_driver_of_a_job_that_is_queued_again_is_dead(study: Storage, pretend: type[Pretend]) -> None:
    with driver_lock.acquire(study):  # Its heartbeat is younger than a minute.
        jobs.stop(study, "tiny")
    assert pretend.did == ["cancel p1"]


def test_a_job_without_a_driver_is_cancelled_and_an_ended_one_is_not(study: Storage, pretend: type[Pretend]) -> None:
    assert "cancelled job p1" in jobs.stop(study, "tiny")["message"]
    pretend.did.clear()
    assert jobs.stop(study, "tiny")["message"] == "no launch of tiny is running"
    assert not pretend.did


def test_a_study_without_a_job_has_none_to_end_now(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="tiny has no job to end now; leave out --now"):
        jobs.stop(Storage(str(tmp_path)).child("tiny"), "tiny", now=True)
