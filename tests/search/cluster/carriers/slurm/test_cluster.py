"""The kind slurm: its fields, its script, and what it makes of Slurm's answers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from search.cluster import spec
from search.cluster.base import ClusterError
from search.cluster.carriers.base import Carrier, State, Submission
from search.cluster.carriers.slurm.cluster import Slurm, time_seconds
from search.files import yaml
from trainables.core.errors import SpecError, StorageError

GOLDEN = Path(__file__).parents[4] / "golden" / "slurm-job.sh"
FULL: dict[str, Any] = {
    "kind": "slurm",
    "nodes": 4,
    "cpus_per_node": 32,
    "gpus_per_node": "a100:4",
    "memory_per_node": "200G",
    "time": "24:00:00",
    "partition": "gpu",
    "account": "robust",
    "setup": ["source /shared/venv/bin/activate"],
    "requeues": 5,
    "extra": ["--qos=preempt"],
    "temp": "/local",
    "cpus_per_trial": 4,
    "gpus_per_trial": 0.5,
    "storage": "/shared/my runs",
}


def submission(storage: str = "/shared/my runs", *words: str) -> Submission:
    return Submission("tiny", "name: tiny\n", storage, words=words)


def test_the_script_is_the_golden_one_and_ends_with_the_part_that_all_share() -> None:
    cluster = Slurm.model_validate(FULL)
    (name,) = cluster.carrier(submission("/shared/my runs", "--allow-change")).files()
    assert name == "job.sh"
    own, mark, shared = (
        cluster.carrier(submission("/shared/my runs", "--allow-change")).files()[name].partition("# From")
    )
    assert own == GOLDEN.read_text()
    assert f"{mark}{shared}".startswith("# From here on the script is the same for every study.")


def test_a_bucket_needs_no_directory_and_keeps_its_options() -> None:
    given = Submission("tiny", "name: tiny\n", "s3://bucket/runs", {"endpoint": "https://minio:9000"})
    text = Slurm.model_validate({"kind": "slurm"}).carrier(given).files()["job.sh"]
    assert "--output" not in text
    assert "RS_MARK=''" in text
    inner = text.partition("END_OF_CLUSTER'\n")[2].partition("\nEND_OF_CLUSTER")[0]
    assert yaml.parse(inner, "inner").data == {
        "kind": "address",
        "storage": "s3://bucket/runs",
        "storage_options": {"endpoint": "https://minio:9000"},
        "nodes": 1,
    }
    # The script adds two keys.
    spec.from_document(yaml.parse(f'{inner}\naddress: "10.0.0.1:20001"\ntoken_file: "/tmp/rs-1/token"\n', "inner"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gpus_per_node": "x"}, "neither a number of GPUs nor a type"),
        ({"gpus_per_node": 0}, "neither a number of GPUs nor a type"),
        ({"time": "soon"}, "not a time of Slurm"),
        ({"extra": ["--nodes=3"]}, "--nodes cannot be given here: write `nodes`"),
        ({"extra": ["-N2"]}, "-N2 cannot be given here: write `nodes`"),
        ({"extra": ["qos"]}, "is not an option of sbatch"),
        ({"setup": ["a\nb"]}, "more than one line"),
        ({"temp": "relative"}, "absolute path of at most 20 characters"),
        ({"temp": "/a-path-that-is-too-long"}, "absolute path of at most 20 characters"),
        ({"cpus_per_trial": 9}, "no node has what one trial asks for (9 CPU)"),
        ({"gpus_per_trial": 1}, "no node has what one trial asks for"),
        ({"concurrency": 2}, "concurrency 2 does not fit"),
        ({"time": "3:00"}, "save_seconds: 180 s leave nothing of the time limit, 180 s"),
        ({"memory_per_node": "lots"}, "memory_per_node"),
        ({"partition": "a b"}, "partition"),
    ],
)
def test_wrong_fields_are_refused_with_what_is_wrong(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        spec.resolve({"kind": "slurm", **fields})
    assert said in str(refused.value)


@pytest.mark.parametrize(("asked", "gpus"), [(None, 0), (2, 2), ("a100:4", 4), ("1g.10gb:7", 7)])
def test_gpus_are_counted_with_and_without_a_type(asked: int | str | None, gpus: int) -> None:
    assert Slurm(gpus_per_node=asked).gpus == gpus


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("90", 5400), ("90:30", 5430), ("1:00:00", 3600), ("2-0", 172800), ("1-12:30", 131400), ("1-00:00:01", 86401)],
)
def test_times_are_read_as_slurm_does(time: str, seconds: int) -> None:
    assert time_seconds(time) == seconds


@pytest.mark.parametrize("storage", ["/tmp/runs", "/var/tmp/x", "/dev/shm/x", "file:///tmp/runs"])
def test_a_storage_that_each_node_has_for_itself_is_refused(storage: str) -> None:
    with pytest.raises(SpecError, match="which each node has for itself"):
        Slurm().check_storage(storage)
    Slurm(allow_local_storage=True).check_storage(storage)


def test_a_storage_is_required_and_may_be_shared_or_a_bucket() -> None:
    with pytest.raises(SpecError, match="write `storage: /shared/robustsearch` in the cluster file, or give --storage"):
        Slurm().check_storage(None)
    for storage in ("/shared/runs", "/tmpfiles", "s3://bucket/runs"):
        Slurm().check_storage(storage)
    with pytest.raises(SpecError, match="has a character"):
        Slurm().check_storage("/shared/50%")


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands, each of which answers what a file of its name holds and notes how it was called."""
    for name in ("sbatch", "squeue", "scontrol", "scancel", "sinfo"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done >> {tmp_path}/{name}.called\n'
            f"cat > {tmp_path}/{name}.input\n"
            f'case " $* " in *" --test-only "*) exit 0;; esac\n'
            f"cat {tmp_path}/{name}.answer 2>/dev/null\nexit $(cat {tmp_path}/{name}.code 2>/dev/null || echo 0)\n"
        )
        program.chmod(0o755)
    (tmp_path / "sinfo.answer").write_text("main*|up|1:00:00\ngpu|up|infinite\nshut|down|1:00:00\n")
    (tmp_path / "sbatch.answer").write_text("sbatch: a warning\n4711;cluster\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def carrier(storage: str = "/shared/my runs", **fields: Any) -> Carrier:
    return Slurm.model_validate({"kind": "slurm", **fields}).carrier(submission(storage))


def test_a_job_is_submitted_with_its_options_on_the_command_line_too(answers: Path) -> None:
    storage = str(answers / "my runs")
    assert carrier(storage, partition="gpu", time="2-0").submit() == "4711"
    called = (answers / "sbatch.called").read_text().splitlines()
    assert called[0] == "--test-only"
    assert called.count("--partition=gpu") == 2, "variables of the environment would win over the script"
    assert "--parsable" in called
    script = carrier(storage, partition="gpu", time="2-0").files()["job.sh"]
    assert (answers / "sbatch.input").read_text() == script


def test_the_folder_of_the_log_is_there_before_the_job(answers: Path) -> None:
    """Slurm fails a job whose output it cannot open, and says it nowhere."""
    carrier(str(answers / "my runs")).submit()
    (log,) = {line for line in (answers / "sbatch.called").read_text().splitlines() if line.startswith("--output=")}
    assert log == f"--output={answers}/my runs/tiny/carrier/slurm-%j.log"
    assert (answers / "my runs" / "tiny" / "carrier").is_dir()
    (answers / "file").write_text("")
    with pytest.raises(StorageError, match="file/tiny/carrier, cannot be made: Not a directory"):
        carrier(str(answers / "file")).submit()


def test_a_script_that_is_submitted_by_hand_makes_it(tmp_path: Path) -> None:
    script = carrier(f"{tmp_path}/my runs").files()["job.sh"]
    assert "#SBATCH --output" not in script
    beginning = script.partition("# The lines of `setup`")[0]
    done = subprocess.run(
        ["bash"], input=f"{beginning}\necho said; echo wrong >&2", env={**os.environ, "SLURM_JOB_ID": "7"}, text=True
    )
    assert done.returncode == 0
    assert (tmp_path / "my runs" / "tiny" / "carrier" / "slurm-7.log").read_text() == "said\nwrong\n"


def test_a_job_of_the_study_is_found_and_one_of_its_name_in_another_storage_is_not(answers: Path) -> None:
    other = Submission("tiny", "", "/shared/other").identity
    (answers / "squeue.answer").write_text(
        f"12 robustsearch-{other}\n13 robustsearch-{submission().identity}\n14 (null)\n"
    )
    assert carrier().submit() == "13"
    assert not (answers / "sbatch.called").exists()
    (answers / "squeue.answer").write_text(f"12 robustsearch-{submission().identity}\n")
    assert carrier(str(answers / "runs")).submit() == "4711"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"time": "2:00:00"}, "time: 2:00:00 is over the limit of the partition main, 1:00:00"),
        ({"partition": "shut"}, "the partition shut is down"),
    ],
)
def test_what_would_wait_for_ever_is_refused(answers: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        carrier(**fields).submit()
    assert "--parsable" not in (answers / "sbatch.called").read_text()
    assert said in next(finding.message for finding in carrier(**fields).checks() if finding.level == "fail")


def test_an_unknown_job_is_lost_and_cancelling_it_is_no_error(answers: Path) -> None:
    for name in ("scontrol", "scancel"):
        (answers / f"{name}.answer").write_text("slurm_load_jobs error: Invalid job id specified\n")
        (answers / f"{name}.code").write_text("1")
    assert carrier().state("7") == State("lost", "Slurm no longer knows it")
    carrier().cancel("7")
    (answers / "scontrol.answer").write_text("slurm_load_jobs error: Unable to contact slurm controller\n")
    with pytest.raises(ClusterError, match="controller cannot be reached"):
        carrier().state("7")


def test_the_log_is_where_slurm_says(answers: Path) -> None:
    (answers / "my log").write_text("one\ntwo\n")
    (answers / "scontrol.answer").write_text(f"JobId=7 StdIn=/dev/null StdOut={answers}/my log Power= \n")
    assert list(carrier().log("7")) == ["one", "two"]


def test_doctor_says_where_slurm_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = carrier().checks()
    assert (finding.level, finding.subject) == ("fail", "sbatch")
    assert "login node" in finding.message
