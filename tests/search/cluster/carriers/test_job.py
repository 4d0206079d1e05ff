"""The kind `job`: what it submits, which state it reads, and what it refuses; on a stand-in for the dashboard."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from search.cluster.base import ClusterError
from search.cluster.carriers import job as jobs
from search.cluster.carriers.base import State, Submission
from search.cluster.carriers.job import Job, JobCarrier, job_state
from search.cluster.spec import resolve
from search.files import yaml
from tests.search.cluster.carriers.dashboard import Dashboard, dashboard
from trainables.core.errors import ExitCode

SUBMISSION = Submission("tiny", "name: tiny\n", "s3://bucket/runs", {"region": "eu-1"}, ("--trials", "+20"))


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setattr(jobs, "LOOK_EVERY", 0.01)
    with dashboard() as board:
        yield board


def carrier(board: Dashboard, submission: Submission = SUBMISSION, **fields: Any) -> JobCarrier:
    made = Job(address=board.address, **fields).carrier(submission)
    assert isinstance(made, JobCarrier)
    return made


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("10.0.0.1", "http://10.0.0.1:8265"),
        ("head:9000", "http://head:9000"),
        ("https://ray.example.com/a/", "https://ray.example.com/a"),
    ],
)
def test_an_address_is_completed(given: str, address: str) -> None:
    assert Job(address=given).address == address


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"address": "ray://head:10001"}, "is a Ray Client address; write that of the dashboard"),
        ({"address": "ftp://head"}, "is not an address of a Ray dashboard"),
        ({"address": "http://head:port"}, "Port could not be cast|is not an address"),
        ({"headers": {"X Key": "1"}}, "is not a name of a header"),
        ({"headers": {"X-Key": "1\r\nX-Other: 2"}}, "more than one line"),
    ],
)
def test_a_field_that_cannot_be_right_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Job(**fields)


def test_what_is_submitted_by_hand_is_what_is_submitted() -> None:
    job = Job(cpus_per_trial=4, code="ship", shell="source /opt/venv/bin/activate", token_file="~/token")
    files = job.carrier(SUBMISSION).files()
    assert files["study.yaml"] == "name: tiny\n"
    inner = yaml.parse(files["inner.yaml"], "inner.yaml").data
    assert inner == {
        "kind": "address",
        "cpus_per_trial": 4,
        "storage": "s3://bucket/runs",
        "storage_options": {"region": "eu-1"},
        "address": "auto",
        "code": "ship",
    }
    command = (
        "exec bash -c '{\nsource /opt/venv/bin/activate\n} && exec python -m search.console launch study.yaml "
        "--cluster inner.yaml --wait 120 --trials +20'"
    )
    assert files["submit.sh"].endswith(f" -- {command}\n")
    assert '{"robustsearch": "' + SUBMISSION.identity in files["submit.sh"]
    assert subprocess.run(["sh", "-n"], input=files["submit.sh"], text=True).returncode == 0
    lines = files["submit.sh"].splitlines()
    assert "export RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265" in lines
    assert f"unset RAY_AUTH_TOKEN; export RAY_AUTH_TOKEN_PATH={Path.home() / 'token'}" in lines
    plain = Job(allow_no_token=True, address="https://head/ray").carrier(SUBMISSION).files()
    assert "export RAY_API_SERVER_ADDRESS=https://head/ray\n" in plain["submit.sh"]
    assert "RAY_AUTH" not in plain["submit.sh"]
    assert "allow_no_token: true" in plain["inner.yaml"]
    assert " -- exec python -m search.console launch " in plain["submit.sh"]


@pytest.mark.parametrize(
    ("shell", "printed", "code"),
    [
        ("export A=1", "launched 1", 0),
        ("export A=1\nexport B=2\n", "launched 1", 0),
        ("export A=1  # chosen", "launched 1", 0),
        ("export A=1;", "launched 1", 0),
        ("export A=1 || exit 3", "launched 1", 0),
        ("A=1; false", "", 1),
        ("false || exit 3", "", 3),
    ],
)
def test_a_job_launches_behind_whatever_shell_ends_well(shell: str, printed: str, code: int) -> None:
    command = Job(shell=shell).carrier(SUBMISSION).entrypoint()
    inner = shlex.split(command)[-1]
    assert inner.count("exec python -m search.console launch") == 1
    told = inner[: inner.index("exec python")] + 'echo "launched $A"'
    done = subprocess.run(["sh", "-c", shlex.join(["exec", "bash", "-c", told])], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (printed, code)


def test_the_fields_of_a_job_are_recorded_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job(token_file="token", headers={"X-Key": "s3cret", "X-Other": "$OTHER"})
    recorded = job.recorded()
    assert recorded["token_file"] == str(tmp_path / "token")
    assert recorded["headers"] == {"X-Other": "$OTHER"}
    assert "s3cret" not in json.dumps(recorded)
    assert isinstance(resolve(recorded), Job)


def test_a_study_is_submitted_once_while_it_runs_and_under_a_new_id_afterwards(board: Dashboard) -> None:
    first = carrier(board)
    assert first.submit() == "robustsearch-tiny-1"
    assert carrier(board).submit() == "robustsearch-tiny-1"
    board.jobs["robustsearch-tiny-1"]["status"] = "RUNNING"
    assert carrier(board).submit() == "robustsearch-tiny-1"
    board.jobs["robustsearch-tiny-1"]["status"] = "FAILED"
    assert carrier(board).submit() == "robustsearch-tiny-2"
    other = Submission("tiny", "name: tiny\n", "/elsewhere")
    assert carrier(board, other).submit() == "robustsearch-tiny-3"
    asked = board.jobs["robustsearch-tiny-1"]
    assert asked["entrypoint_num_cpus"] == 0
    assert asked["entrypoint"] == first.entrypoint()
    content = board.packages[asked["runtime_env"]["working_dir"].removeprefix("gcs://")]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert set(archive.namelist()) == {"study.yaml", "inner.yaml"}
    assert list(first.log("robustsearch-tiny-1")) == ["one", "two"]


def test_of_two_launches_at_once_the_later_one_finds_the_jobs_of_the_other(
    board: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = carrier(board)
    assert carrier(board, Submission("tiny", "", "/elsewhere")).submit() == "robustsearch-tiny-1"
    monkeypatch.setattr(late.server, "jobs", iter([[], [], [*board.jobs.values()]]).__next__)
    assert late.submit() == "robustsearch-tiny-2"


@pytest.mark.parametrize(
    ("job", "state"),
    [
        ({"status": "PENDING"}, State("starting", "Ray sends its files to the head, and starts it")),
        ({"status": "RUNNING"}, State("running")),
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, State("ended", code=0)),
        ({"status": "STOPPED"}, State("ended", "it was stopped", 143)),
        (
            {
                "status": "FAILED",
                "driver_exit_code": 3,
                "message": "failed with exit code 3:\nno feasible point: 4 trials\nnext: robustsearch front tiny\n",
            },
            State("ended", "no feasible point: 4 trials", 3),
        ),
        ({"status": "FAILED", "driver_exit_code": -9, "message": ""}, State("ended", "", 137)),
        (
            {"status": "FAILED", "driver_exit_code": 127, "message": "sh: 1: exec: python: not found"},
            State("ended", jobs._not_begun(127, "python: not found"), ExitCode.CLUSTER),
        ),
        (
            {"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_DIED", "message": "actor died\n"},
            State("lost", "Ray's supervisor of the job died, with it the launch: actor died"),
        ),
    ],
)
def test_a_state_is_read_from_what_ray_says(job: dict[str, Any], state: State) -> None:
    assert job_state(job) == state


def test_a_python_without_robustsearch_is_said_with_what_to_do() -> None:
    failed = {"status": "FAILED", "driver_exit_code": 1, "message": "/opt/python: No module named search.console\n"}
    said = job_state(failed)
    assert "no module search.console; install robustsearch there, send it with `code: ship`" in said.reason
    assert said.code == ExitCode.CLUSTER
    said = job_state({**failed, "driver_exit_code": 127, "message": "bash: line 1: exec: python: not found"})
    assert ("no `python` on its path" in said.reason, said.code) == (True, ExitCode.CLUSTER)
    assert job_state({**failed, "message": "a bug"}).code == ExitCode.BUG


def test_a_job_that_the_cluster_does_not_know_is_lost(board: Dashboard) -> None:
    state = carrier(board).state("robustsearch-tiny-9")
    assert (state.phase, state.over) == ("lost", True)
    assert "knows no job robustsearch-tiny-9" in state.reason


def test_a_job_that_was_asked_to_stop_is_ended_after_its_time(
    board: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = carrier(board)
    job = running.submit()
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.05)
    running.cancel(job)
    assert running.state(job) == State("ended", "it was stopped", 143)
    stops = [path for _, path, _ in board.asked if path.endswith("/stop")]
    running.cancel(job)
    assert [path for _, path, _ in board.asked if path.endswith("/stop")] == stops == [f"/api/jobs/{job}/stop"]


def findings(carrier: JobCarrier) -> list[str]:
    return [f"{finding.level} {finding.subject}: {finding.message}" for finding in carrier.checks()]


def test_what_doctor_finds_is_what_a_submission_refuses(board: Dashboard) -> None:
    assert findings(carrier(board)) == [
        "ok token: from RAY_AUTH_TOKEN",
        f"ok cluster: {board.address} answers, and accepts the token",
        "ok Ray: 2.60.0 on the cluster",
        "ok Python: 3.11.7 on the cluster",
    ]
    board.version, board.python = "2.9.3", "3.10.2"
    found = findings(carrier(board))
    assert "fail Ray: the cluster has Ray 2.9.3; robustsearch needs 2.60 or later there" in found
    assert "fail Python: the cluster has Python 3.10.2; robustsearch needs 3.11 or later there" in found
    with pytest.raises(ClusterError, match=r"the cluster has Ray 2\.9\.3"):
        carrier(board).submit()
    assert board.jobs == {}


def test_an_open_cluster_is_refused_unless_the_file_accepts_it(board: Dashboard) -> None:
    board.token = None
    with pytest.raises(ClusterError, match=r"has no authentication: anybody.*RAY_AUTH_MODE=token"):
        carrier(board).submit()
    accepting = carrier(board, allow_no_token=True)
    assert f"ok cluster: {board.address} answers" in findings(accepting)
    assert accepting.submit() == "robustsearch-tiny-1"


def test_a_token_file_that_is_missing_or_read_by_others_is_named(board: Dashboard, tmp_path: Path) -> None:
    token = tmp_path / "token"
    with pytest.raises(ClusterError, match=f"token file {token} cannot be read"):
        carrier(board, token_file=str(token)).submit()
    token.write_text("secret\n")
    token.chmod(0o644)
    assert carrier(board, token_file=str(token)).submit()
    token.write_text(" \n")
    with pytest.raises(ClusterError, match=f"token file {token} is empty"):
        carrier(board, token_file=str(token)).submit()


def test_a_header_is_taken_from_the_environment(board: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"X-Key": "$PROXY_KEY"}
    with pytest.raises(ClusterError, match=r"the header X-Key of the cluster file is in .PROXY_KEY, which is not set"):
        carrier(board, headers=headers).submit()
    monkeypatch.setenv("PROXY_KEY", "open sesame")
    carrier(board, headers=headers).submit()
    assert board.asked[-1][2]["x-key"] == "open sesame"


def test_plug_ins_are_sent_and_this_project_where_it_is_not_installed(tmp_path: Path) -> None:
    assert Job().sends("mine", tmp_path / "mine.py")
    assert not Job().sends("theirs", Path("/usr/lib/python3/site-packages/theirs"))
    assert (Job().sent_packages, Job(code="ship").sent_packages) == ((), ("search", "trainables"))


def test_the_oldest_versions_are_those_of_the_package() -> None:
    project = (Path(__file__).parents[4] / "pyproject.toml").read_text()
    assert f'"ray[default,tune]>={jobs.LEAST_RAY[0]}.{jobs.LEAST_RAY[1]}' in project
    assert f'requires-python = ">={jobs.LEAST_PYTHON[0]}.{jobs.LEAST_PYTHON[1]}"' in project
