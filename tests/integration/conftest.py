"""Studies that run in seconds, and launches as a person would start them: in a process of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

TINY = """
name: tiny
data: digits
model: {kind: lenet300, hidden: [16]}
recipe:
  kind: imp
  rate: 0.5
  epochs: 4
  rewind: init
  train: {batch: 256, eps: 0.1, optimiser: adam, attack: {kind: pgd, steps: 1}, precision: fp32}
space:
  recipe.sparsity: {kind: float, low: 0.0, high: 0.9}
  recipe.train.eps: {kind: categorical, choices: [0.05, 0.1]}
protocol: {eps: 0.1, examples: 50, attack: {kind: pgd, steps: 2}}
sampler: {kind: tpe, n_startup_trials: 3}
budget: {trials: 4}
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command line in the background; whatever it leaves behind is ended afterwards, by id."""
    begun: list[subprocess.Popen[str]] = []
    family: dict[int, psutil.Process] = {}

    def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "robustsearch"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
            start_new_session=True,  # As a terminal's job: a signal can be sent to all of it.
        )
        begun.append(process)
        return process

    def remember() -> None:
        for process in begun:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    family[child.pid] = child

    run.remember = remember  # type: ignore[attr-defined]
    yield run
    remember()
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()
    end(family.values())


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for the sockets that Ray keeps in it."""
    folder = Path(tempfile.mkdtemp(prefix="rs"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def end(processes: Iterator[psutil.Process] | object) -> None:
    """End processes that this session started, and only those: psutil knows a reused id by its start time."""
    for process in processes:  # type: ignore[attr-defined]
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Poll until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
