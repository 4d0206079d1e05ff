"""Studies that run in seconds, and launches as a person would start them: in a process of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.nodes import end
from tests.search.tiny import TINY


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
