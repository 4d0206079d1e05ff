"""Studies as jobs of a real Slurm on two machines: requeued, cancelled, out of time, on a node that is lost.

One of them runs on Ray. For the others the launch in the job runs its trials in its own process: what Slurm does to a
job is the same, and Ray takes half a minute to start. Of trials, none may be lost and none repeated.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search.files import yaml
from tests.infra.machines import Machine, poll
from tests.infra.slurm import Slurm
from tests.infra.without_ray import without_ray_programs
from tests.search.tiny import FIELDS, numbers, outcomes, params, states

pytestmark = [pytest.mark.infra, pytest.mark.timeout(900)]

SLOW_SQUEUE = """#!/bin/bash
mkdir "$0.asked" 2>/dev/null && { echo "slurm_load_jobs error: Socket timed out" >&2; exit 1; }
/usr/bin/squeue "$@" | sed 's/^RUNNING$/SIGNALING/'
"""
"""Does not answer at first, and then as long as Slurm has not reached all nodes with a signal."""
ROBUSTSEARCH = [sys.executable, "-m", "search.console"]


class Study:
    """A study of its own name, and the commands that a person types on the machines."""

    def __init__(self, slurm: Slurm, folder: Path, name: str, trials: int, epochs: int, **cluster: Any) -> None:
        self.slurm, self.folder, self.name, self.trials = slurm, folder, name, trials
        self.root = folder / "runs"
        self.root.mkdir(exist_ok=True)
        self.own = self.root / name
        study = {**FIELDS, "name": name, "budget": {"trials": trials}, "recipe": {**FIELDS["recipe"], "epochs": epochs}}
        (folder / f"{name}.yaml").write_text(yaml.dump_yaml(study))
        fields = {
            "kind": "slurm",
            "storage": str(self.root),
            "allow_local_storage": True,
            "time": "00:30:00",
            **cluster,
        }
        (folder / f"{name}-slurm.yaml").write_text(yaml.dump_yaml(fields))

    def run(self, *words: str, on: Machine | None = None, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `check` is the exit code that it must have."""
        done = (on or self.slurm.head).run([*ROBUSTSEARCH, *words], cwd=self.folder, check=False, timeout=500)
        said = f"{words}: {done.returncode}\n{done.stdout}{done.stderr}{self.log()}"
        assert check is None or done.returncode == check, said
        return done

    @property
    def launch(self) -> tuple[str, ...]:
        return "launch", f"{self.name}.yaml", "--cluster", f"{self.name}-slurm.yaml"

    @property
    def stored(self) -> tuple[str, ...]:
        return self.name, "--storage", str(self.root)

    def submit(self) -> str:
        """Submit the study, and return the id of its job."""
        return self.run(*self.launch, "--detach").stdout.strip()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", *self.stored, "--json").stdout)
        return found

    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.own.glob("carrier/*.log")))

    def wait_outcomes(self, count: int) -> dict[str, bytes]:
        """Wait until trials have ended, and return what they left."""
        poll(lambda: len(outcomes(self.own)) >= count, f"{count} trials of {self.name}: {self.log()}", 400)
        return outcomes(self.own)

    def check(self, before: dict[str, bytes]) -> None:
        """Require that all trials are complete, each once, and that what had ended before was not touched."""
        assert self.check_ended(before) == self.trials
        assert states(self.own) == {"complete": self.trials}
        assert sorted(params(self.own)) == numbers(self.trials)

    def check_ended(self, before: dict[str, bytes]) -> int:
        """Require that what had ended before was not touched, and no number left out; return how many have ended."""
        after = outcomes(self.own)
        assert {number: after[number] for number in before} == before, "a trial that had ended was run again"
        assert list(after) == numbers(len(after))
        return len(after)


@pytest.fixture
def without_ray(tmp_path: Path) -> dict[str, Any]:
    """The fields of a cluster whose jobs run their trials in the process of the launch."""
    return {"setup": [f"export PATH={without_ray_programs(tmp_path / 'programs')}:$PATH"]}


def test_a_job_that_is_cancelled_or_left_alone_loses_nothing(
    slurm: Slurm, tmp_path: Path, without_ray: dict[str, Any]
) -> None:
    study = Study(slurm, tmp_path, "left", 6, 40, **without_ray)
    following = slurm.head.start(
        [*ROBUSTSEARCH, *study.launch], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    study.wait_outcomes(1)
    following.send_signal(signal.SIGINT)
    said = following.communicate(timeout=60)[0]
    assert following.returncode == 130, said
    job = study.status()["job"]
    assert f"job {job['id']} (slurm) goes on" in said
    assert job["state"]["phase"] == "running"
    before = study.wait_outcomes(2)
    slurm.head.run(["scancel", job["id"]])
    ended = slurm.wait_state(job["id"], "CANCELLED", "COMPLETED")
    assert ended["JobState"] == "CANCELLED"
    assert study.status()["job"]["state"]["reason"] == "cancelled"
    done = study.run(*study.launch)
    assert "submitted as job" in done.stderr
    study.check(before)


def test_a_job_is_stopped_at_once_or_after_saving_and_taken_out_of_the_queue(
    slurm: Slurm, tmp_path: Path, without_ray: dict[str, Any]
) -> None:
    study = Study(slurm, tmp_path, "stopped", 6, 40, **without_ray)
    job = study.submit()
    before = study.wait_outcomes(1)
    assert "running trials save" in study.run("stop", *study.stored).stderr
    assert slurm.wait_state(job, "FAILED")["ExitCode"] == "130:0", "the code of a launch that was stopped"

    slurm.head.run(["sbatch", "--nodes=2", "--exclusive", "--job-name=busy", "--wrap", "sleep 600"])
    poll(lambda: set(slurm.states().values()) == {"alloc"}, "busy nodes")
    queued = study.submit()
    assert "job " + queued in study.run(*study.launch, "--detach").stderr, "a second launch finds the job"
    poll(lambda: "(" in study.status()["job"]["text"], "the reason")
    text = study.status()["job"]["text"]
    assert text.startswith(f"job {queued} (slurm): queued in partition main (")
    assert re.search(r", 00:\d\d$", text), text
    assert f"cancelled job {queued} (slurm), which was queued" in study.run("stop", *study.stored).stderr
    slurm.head.run(["scancel", "--name=busy"])

    slurm.wait_state(queued, "CANCELLED")
    again = study.submit()
    before |= study.wait_outcomes(len(before) + 1)
    assert f"cancelled job {again}" in study.run("stop", *study.stored, "--now").stderr
    slurm.wait_state(again, "CANCELLED")
    poll(lambda: "driver" not in study.status() or study.status()["driver"] is None, "its end")
    assert study.run(*study.launch).returncode == 0
    study.check(before)


def test_a_rendered_script_is_submitted_by_hand(slurm: Slurm, tmp_path: Path, without_ray: dict[str, Any]) -> None:
    """Into a storage that has nothing yet: Slurm makes no folder for a job's output, and fails a job that lacks it."""
    study = Study(slurm, tmp_path, "rendered", 2, 4, **without_ray)
    study.run(*study.launch, "--render", str(tmp_path / "made"))
    job = slurm.head.run(["sbatch", "--parsable", str(tmp_path / "made" / "job.sh")], cwd=tmp_path).stdout.strip()
    assert slurm.wait_state(job, "COMPLETED", "FAILED", seconds=300)["JobState"] == "COMPLETED", study.log()
    study.check({})
    assert f"job {job}, start 1" in study.log()


def end_soon(slurm: Slurm, job: str) -> None:
    """Give a job one to two minutes, which Slurm notices within half a minute."""
    hours, minutes, seconds = map(int, slurm.job(job)["RunTime"].split(":"))
    until = (hours * 60 + minutes) * 60 + seconds + 60
    slurm.head.run(["scontrol", "update", f"JobId={job}", f"TimeLimit={until // 60 + 1}"])


def test_a_time_limit_and_a_lost_node_lose_nothing(slurm: Slurm, tmp_path: Path, without_ray: dict[str, Any]) -> None:
    """Both at once, on a node each: most of the time is that of Slurm and of the lease."""
    busy = slurm.head.run("sbatch --parsable --nodelist=n1 --cpus-per-task=3 --wrap 'sleep 600'").stdout.strip()
    slurm.wait_state(busy, "RUNNING")
    short = Study(slurm, tmp_path, "short", 1000, 60, save_seconds=150, **without_ray)
    lost = Study(slurm, tmp_path, "lost", 6, 40, **without_ray)
    squeue = tmp_path / "programs" / "squeue"
    squeue.write_text(SLOW_SQUEUE)
    squeue.chmod(0o755)
    limited, moved = short.submit(), lost.submit()
    assert slurm.wait_state(moved, "RUNNING")["NodeList"] == "n2"
    short.wait_outcomes(1)
    end_soon(slurm, limited)
    of_lost = lost.wait_outcomes(2)
    slurm.machines["n2"].kill()
    slurm.wait_requeued(limited)
    slurm.head.run(["scontrol", "update", f"JobId={limited}", "TimeLimit=30"])
    of_short = outcomes(short.own)
    assert "Socket timed out" in short.log(), "Slurm was asked again"
    slurm.head.run(["scancel", busy])

    assert lost.run(*lost.launch).returncode == 0
    lost.check(of_lost)
    assert slurm.job(moved)["Restarts"] == "1"
    assert "took over the study from" in lost.log()
    short.wait_outcomes(len(of_short) + 2)
    assert slurm.job(limited)["Restarts"] == str(short.log().count("requeued to resume"))
    short.run("stop", *short.stored, "--now")
    short.check_ended(of_short)


def test_a_job_that_is_preempted_at_once_or_with_a_time_of_grace_loses_nothing(
    slurm: Slurm, tmp_path: Path, without_ray: dict[str, Any]
) -> None:
    """By a job of a partition with a higher priority. With grace, Slurm tells the steps, and not the script."""
    study = Study(slurm, tmp_path, "preempted", 8, 40, **without_ray)
    job, before = study.submit(), {}
    for grace in (0, 30):
        before |= study.wait_outcomes(len(before) + 2)
        slurm.preempt("n1,n2", grace)
    assert "requeued to resume" in study.log(), "by itself, before the time of grace was over"
    done = study.run(*study.launch)
    assert f"job {job} (slurm) already runs this study" in done.stderr
    assert slurm.job(job)["Restarts"] == "2"
    study.check(before)


def test_each_node_of_a_job_gives_ray_the_gpus_that_slurm_gave_it(
    slurm: Slurm, tmp_path: Path, without_ray: dict[str, Any]
) -> None:
    busy = slurm.head.run("sbatch --parsable --gpus-per-node=1 --nodes=2 --wrap 'sleep 600'").stdout.strip()
    slurm.wait_state(busy, "RUNNING")
    study = Study(slurm, tmp_path, "gpus", 1, 4, nodes=2, gpus_per_node="a100:1", gpus_per_trial=0.5, **without_ray)
    study.run(*study.launch)
    started = [line.split() for line in (tmp_path / "programs" / "ray.log").read_text().splitlines()]
    assert sorted(words[:2] for words in started) == [["n1", "1"], ["n2", "1"]], "the other job has GPU 0 of each"
    assert all("--num-gpus=1" in words for words in started)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"partition": "nowhere"}, "Slurm knows no such `partition`"),
        ({"partition": "shut"}, "the partition shut is down"),
        ({"time": "2-00:00:00"}, "time: 2-00:00:00 is over the limit of the partition main, 1:00:00"),
        ({"nodes": 9}, "no node of the partition has what is asked for"),
        ({"gpus_per_node": "h100:1"}, "no node of the partition has what is asked for"),
        ({"extra": ["--constraint=nothing"]}, "no node has the feature"),
        ({"extra": ["--bogus"]}, "unrecognized option"),
    ],
)
def test_what_slurm_would_refuse_is_said_before_anything_is_submitted(
    slurm: Slurm, tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    study = Study(slurm, tmp_path, "refused", 1, 4, **fields)
    assert said in study.run(*study.launch, check=6).stderr
    assert slurm.head.run(["squeue", "--noheader"]).stdout == ""


def test_doctor_says_when_a_job_would_start_and_why_not(slurm: Slurm, tmp_path: Path) -> None:
    study = Study(slurm, tmp_path, "checked", 1, 4)
    assert "would start at" in study.run("doctor", "--cluster", "checked-slurm.yaml").stdout
    Study(slurm, tmp_path, "checked", 1, 4, partition="nowhere")
    assert "no such `partition`" in study.run("doctor", "--cluster", "checked-slurm.yaml", check=6).stdout


def test_of_two_studies_on_ray_that_share_a_node_one_is_requeued_in_the_middle(slurm: Slurm, tmp_path: Path) -> None:
    setup = [f"export PATH={Path(sys.executable).parent}:$PATH"]
    study = Study(slurm, tmp_path, "rays", 6, 60, nodes=2, cpus_per_node=2, setup=setup)
    beside = Study(slurm, tmp_path, "beside", 3, 60, extra=["--nodelist=n1"], setup=setup)
    job, other = study.submit(), beside.submit()
    before = study.wait_outcomes(2)
    for machine in slurm.machines:
        assert set(machine.run("stat -c %a /tmp/rs-*").stdout.split()) == {"700"}, "nobody else may write there"
    slurm.head.run(["scontrol", "requeue", job])
    done = study.run(*study.launch, on=slurm.machines["n2"])
    assert f"job {job} (slurm) already runs this study" in done.stderr
    assert slurm.job(job)["Restarts"] == "1"
    study.check(before)
    for number in (job, other):
        slurm.wait_state(number, "COMPLETED")
    assert slurm.job(other)["Restarts"] == "0"
    beside.check({})
    for machine in slurm.machines:
        assert machine.run("ls -d /tmp/rs-*", check=False).stdout == "", "Ray's files are gone with the job"
