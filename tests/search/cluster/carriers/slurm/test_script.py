"""The script of a job: what bash and shellcheck say of it, and that no text ends it early."""

from __future__ import annotations

import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from search.cluster.carriers.slurm.script import script

SHARED = str(files("search.cluster.carriers.slurm") / "job.sh")


def made(study: str = "name: tiny\n", option: str = "--nodes=2") -> str:
    variables = {"RS_TEMP": "/tmp", "RS_MARK": "/shared/my runs/tiny/carrier/nodes"}
    return script([option], ["module load cuda"], variables, ["--wait", "120"], {"study": study, "cluster": "kind: x"})


def test_bash_reads_the_script() -> None:
    subprocess.run(["bash", "-n"], input=made(), text=True, check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    # SC2317: functions that run on the nodes are not called here. SC1090, SC1091: what `setup` reads is not here.
    words = ["shellcheck", "--shell=bash", "--exclude=SC2317,SC1090,SC1091"]
    for text in (made(), Path(SHARED).read_text()):
        done = subprocess.run([*words, "-"], input=text, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("study", ["a: $HOME `id` 'x'\n", "END_OF_STUDY\nEND_OF_STUDY_\nb: 1\n", 'c: "\\n"\n', "d: 1"])
def test_a_text_is_printed_as_it_is(study: str) -> None:
    beginning = made(study).partition("# From here on")[0].replace("module load cuda", "")
    done = subprocess.run(["bash"], input=f"{beginning}\nstudy", text=True, capture_output=True, check=True)
    assert done.stdout == study.removesuffix("\n") + "\n"


def test_an_option_with_a_space_is_quoted_as_sbatch_reads_it() -> None:
    assert "#SBATCH '--output=/a b/%j'\n" in made(option="--output=/a b/%j")
