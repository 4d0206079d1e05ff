"""Slurm's commands and their errors, as Slurm 22.05 printed them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.cluster.base import ClusterError
from search.cluster.carriers.slurm import commands


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "sbatch: error: invalid partition specified: nope\nallocation failure: Invalid partition name specified\n",
            "Slurm knows no such `partition` (invalid partition specified: nope; allocation failure: Invalid partition "
            "name specified)",
        ),
        ("allocation failure: Requested node configuration is not available\n", "no node of the partition has what"),
        ("allocation failure: Invalid feature specification\n", "no node has the feature"),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n",
            "Slurm knows no such `account`",
        ),
        ("sbatch: error: Batch job submission failed: Invalid qos specification\n", "Slurm knows no such QoS"),
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some "
            "limit)\n",
            "the `time` is over the limit",
        ),
        (
            "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
            "accounting/QOS policy (job submit limit, user's size and/or time limits)\n",
            "a limit of the account or QoS is reached",
        ),
        (
            "sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\nsbatch: fatal: Could not "
            "establish a configuration source\n",
            "Slurm's controller cannot be reached from this machine",
        ),
        (
            "sbatch: unrecognized option '--bogus'\nTry \"sbatch --help\" for more information\n",
            "Slurm refuses the job: unrecognized option '--bogus'; Try",
        ),
        ("", "Slurm refuses the job: without a message"),
    ],
)
def test_an_error_is_said_in_words_with_what_slurm_says(output: str, said: str) -> None:
    assert commands.explained("sbatch", output).startswith(said)


def test_a_forgotten_job_is_told_from_other_errors() -> None:
    gone = commands.explained("scontrol", "slurm_load_jobs error: Invalid job id specified\n")
    assert not commands.known(gone)
    assert commands.known(commands.explained("scontrol", "slurm_load_jobs error: Unable to contact slurm controller\n"))


def _program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_a_command_sees_no_job_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, "sbatch", "env; cat")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "500")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    said = commands.run("sbatch", text="the script").splitlines()
    assert "SLURM_CONF=/etc/slurm.conf" in said
    assert said[-1] == "the script"
    assert not [line for line in said if line.startswith("SLURM_MEM")]


def test_a_missing_or_silent_slurm_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"no `sbatch` on this machine: .* login node"):
        commands.run("sbatch")
    _program(tmp_path, "sbatch", "exec /bin/sleep 60")
    monkeypatch.setattr(commands, "SECONDS", 0.2)
    with pytest.raises(ClusterError, match="did not answer `sbatch`"):
        commands.run("sbatch")
