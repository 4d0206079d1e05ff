"""A launch that runs in a job: submitted once, followed by its records, left alone or stopped."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import search
from search.cluster.base import ClusterError
from search.cluster.carriers.base import State
from search.launch import carry, jobs
from search.launch.ending import NotStarted
from search.launch.plan import Plan
from search.results.study import Study
from search.store import driver_lock
from search.study import file as study_file
from tests.search.pretend import Pretend, pretend
from tests.search.tiny import FIELDS
from trainables.core.errors import ExitCode, RobustsearchError, SpecError
from trainables.store.lease import LeaseHeld

__all__ = ["pretend"]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(carry, "STATE_EVERY", 0.02)


def planned(root: Path, trials: int = 2, **changes: Any) -> Plan:
    options: dict[str, Any] = {"cluster": {"kind": "pretend"}, "storage": root, "trials": trials}
    return search.plan({**FIELDS, **changes}, **options)


def run_inline(root: Path, trials: int = 2) -> None:
    """Do what the launch in the job does."""
    search.launch(FIELDS, cluster="inline", storage=root, trials=trials, quiet=True)


def follow(plan: Plan, **options: Any) -> tuple[Study | None, list[str]]:
    said: list[str] = []
    try:
        return carry.launch(plan, view=lambda _: None, say=said.append, **options), said
    except NotStarted as early:
        return None, [*said, early.ending.message, str(int(early.ending.exit_code))]


def test_what_is_submitted_is_the_study_as_planned_and_found_again(tmp_path: Path, pretend: type[Pretend]) -> None:
    plan = planned(tmp_path, name="other")
    said: list[str] = []
    first = carry.submit(plan, said.append)
    (submission,) = pretend.submitted
    assert study_file.loads(submission.study_yaml, "submitted") == plan.spec
    assert (submission.study, submission.name, submission.storage) == ("other", "robustsearch-other", str(tmp_path))
    assert submission.words == ()
    record = tmp_path / "other" / "carrier" / "job.json"
    assert record.stat().st_mode & 0o777 == 0o600
    assert json.loads(record.read_text())["cluster"]["kind"] == "pretend"
    assert carry.submit(planned(tmp_path, name="other"), said.append) == first
    assert len(pretend.submitted) == 1
    assert said == ["submitted as job p1 (pretend)", f"job p1 (pretend) {FOLLOWED}"]
    pretend.states[:] = [State("ended", code=0)]
    assert carry.submit(planned(tmp_path, name="other"), said.append).id == "p2"


FOLLOWED = "already runs this study; following it"


def test_another_version_of_a_study_is_not_followed(tmp_path: Path, pretend: type[Pretend]) -> None:
    carry.submit(planned(tmp_path), lambda _: None)
    with pytest.raises(SpecError, match=r"job p1 .pretend. runs another version of tiny; .*`robustsearch stop tiny"):
        carry.submit(planned(tmp_path, trials=3), lambda _: None)
    assert len(pretend.submitted) == 1


def test_a_study_that_something_else_drives_is_not_submitted(tmp_path: Path, pretend: type[Pretend]) -> None:
    plan = planned(tmp_path)
    with driver_lock.acquire(plan.storage), pytest.raises(LeaseHeld, match=f"is driven by process {os.getpid()}"):
        carry.submit(plan, lambda _: None)
    assert not pretend.submitted
    assert jobs.Job.read(plan.storage) is None


def test_the_lease_of_a_job_that_was_killed_is_left_to_the_next_job_to_wait_for(
    tmp_path: Path, pretend: type[Pretend]
) -> None:
    plan = planned(tmp_path)
    carry.submit(plan, lambda _: None)
    with driver_lock.acquire(plan.storage):
        pretend.states[:] = [State("ended", code=137)]
        assert carry.submit(plan, lambda _: None).id == "p2"
        with pytest.raises(LeaseHeld, match="is driven by process"):  # It has begun before p2 was submitted.
            carry.submit(plan, lambda _: None)
    assert len(pretend.submitted) == 2


def test_a_refused_job_leaves_no_record(
    tmp_path: Path, pretend: type[Pretend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretend, "refusal", "the queue day is closed")
    with pytest.raises(ClusterError, match="the queue day is closed"):
        follow(planned(tmp_path))
    assert jobs.Job.read(planned(tmp_path).storage) is None


@pytest.mark.slow
def test_a_job_is_followed_through_its_states_to_its_end(tmp_path: Path, pretend: type[Pretend]) -> None:
    queued = State("queued", "in queue day (busy)")
    pretend.states[:] = [queued, queued, State("starting"), State("running", "on n1"), State("ended", code=0)]
    done = []

    def launched() -> None:
        if pretend.states[0].phase == "ended" and not done:
            done.append(run_inline(tmp_path))

    pretend.on_state = staticmethod(launched)  # type: ignore[method-assign]
    study, said = follow(planned(tmp_path))
    assert study is not None
    assert study.ending is not None
    assert study.ending.exit_code == ExitCode.DONE
    assert "of 2 trials 2 complete" in study.ending.message
    assert said == [
        "submitted as job p1 (pretend)",
        "job p1: queued in queue day (busy)",
        "job p1: starting",
        "job p1: running on n1",
        "job p1: ended with exit code 0",
    ]
    assert pretend.did == ["ended p1"]


def test_a_job_that_ends_before_there_is_a_study_shows_the_end_of_its_log(
    tmp_path: Path, pretend: type[Pretend]
) -> None:
    pretend.states[:] = [State("ended", code=2)]
    study, said = follow(planned(tmp_path))
    assert study is None
    assert said[-1] == "2"
    assert said[-2] == "job p1 ended with exit code 2, before there was a study"
    assert said[-3] == "  line 49"
    assert len([line for line in said if line.startswith("  line")]) == carry.LOG_LINES


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (State("ended", code=4), ExitCode.TRIALS_FAILED),
        (State("ended", code=127), ExitCode.CLUSTER),
        (State("lost", "gone"), ExitCode.CLUSTER),
    ],
)
def test_without_a_study_the_code_is_that_of_the_job(state: State, code: ExitCode) -> None:
    assert carry.exit_code(state, None) == code


@pytest.mark.slow
def test_where_the_code_is_unknown_the_records_tell(tmp_path: Path, pretend: type[Pretend]) -> None:
    run_inline(tmp_path)
    now = Study.open(str(tmp_path / "tiny")).progress()
    assert carry.exit_code(State("lost"), now) == (ExitCode.DONE if now.front else ExitCode.NO_FEASIBLE_POINT)
    more = planned(tmp_path, trials=3)
    assert more.records is not None
    more.records.replace_spec(more.spec, ())
    assert carry.exit_code(State("lost"), Study.open(str(tmp_path / "tiny")).progress()) == ExitCode.CLUSTER


def interrupting(pretend: type[Pretend], number: int = signal.SIGINT) -> None:
    """Send a signal the first time that the cluster is asked."""
    sent: list[None] = []

    def interrupt() -> None:
        if not sent:
            sent.append(os.kill(os.getpid(), number))

    pretend.on_state = staticmethod(interrupt)  # type: ignore[method-assign]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_job_alone_where_nobody_answers(
    tmp_path: Path, pretend: type[Pretend], number: int
) -> None:
    interrupting(pretend, number)
    study, said = follow(planned(tmp_path))
    assert study is None
    assert said[-1] == str(128 + number)
    assert said[-2].startswith("job p1 (pretend) goes on: `robustsearch status tiny --storage")
    assert not pretend.did


def test_who_detaches_leaves_the_job_alone_and_who_stops_takes_it_out_of_the_queue(
    tmp_path: Path, pretend: type[Pretend]
) -> None:
    interrupting(pretend)
    left = follow(planned(tmp_path), ask=lambda: "detach")[1]
    assert "goes on" in left[-2]
    interrupting(pretend)
    study, said = follow(planned(tmp_path), ask=lambda: "stop")
    assert study is None
    assert pretend.did == ["cancel p1", "ended p1"]
    assert "cancelled job p1 (pretend), which was queued in queue day, 00:00" in said
    assert said[-1] == "143"


def test_a_second_interruption_says_that_the_job_goes_on(tmp_path: Path, pretend: type[Pretend]) -> None:
    interrupting(pretend)

    def ask() -> carry.Choice:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second Ctrl-C ends the question")

    assert "goes on" in follow(planned(tmp_path), ask=ask)[1][-2]
    assert not pretend.did


def test_a_cluster_that_does_not_answer_for_a_while_changes_nothing(
    tmp_path: Path, pretend: type[Pretend], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []

    def answering() -> None:
        asked.append(None)
        if len(asked) == 2:
            raise ClusterError("the controller is busy")
        if len(asked) == 3:
            pretend.states[:] = [State("ended", code=6)]

    pretend.on_state = staticmethod(answering)  # type: ignore[method-assign]
    said = follow(planned(tmp_path))[1]
    assert "job p1 is not affected, but its state is unknown: the controller is busy" in said
    assert said[-1] == "6"


def test_an_error_of_the_storage_says_that_the_job_goes_on(
    tmp_path: Path, pretend: type[Pretend], monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(self: object) -> None:
        raise RobustsearchError("the storage is away")

    monkeypatch.setattr(carry.Watched, "look", torn)
    said: list[str] = []
    with pytest.raises(RobustsearchError, match="the storage is away"):
        carry.launch(planned(tmp_path), view=lambda _: None, say=said.append)
    assert "goes on" in said[-1]


@pytest.mark.slow
def test_the_python_api_submits_and_follows(tmp_path: Path, pretend: type[Pretend]) -> None:
    run_inline(tmp_path)
    pretend.states[:] = [State("ended", code=0)]
    study = search.launch(FIELDS, cluster={"kind": "pretend"}, storage=tmp_path, trials=2, quiet=True)
    assert study.ending is not None
    assert study.ending.exit_code == ExitCode.DONE
    assert len(pretend.submitted) == 1
