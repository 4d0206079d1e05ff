from __future__ import annotations

import argparse
import locale
import logging
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.core import contained as module
from trainables.core.contained import Refused, contained


def test_what_the_code_prints_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with contained("name"):
        print("printed")
        os.write(1, b"written\n")
        subprocess.run(["echo", "by a child"], check=True)
    print("after")
    out, err = capfd.readouterr()
    assert out == "after\n"
    assert sorted(err.split("\n")[:3]) == ["by a child", "printed", "written"]


def test_the_process_is_as_before(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (os.getcwd(), root.level, list(root.handlers), list(warnings.filters), sys.stdin, sys.argv, sys.stdout)
    with contained("name"):
        os.chdir(tmp_path)
        logging.basicConfig(level=logging.DEBUG, force=True)
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_default_device("meta")
    assert before == (
        *(os.getcwd(), root.level, list(root.handlers), list(warnings.filters)),
        *(sys.stdin, sys.argv, sys.stdout),
    )
    assert root.manager.disable == logging.NOTSET
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_device() == torch.device("cpu")
    assert torch.is_grad_enabled()


def test_signals_path_and_interpreter_are_as_before(tmp_path: Path) -> None:
    def state() -> list[object]:
        mask = os.umask(0)
        os.umask(mask)
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGALRM)]
        return [*handlers, mask, sys.getrecursionlimit(), locale.setlocale(locale.LC_ALL), sys.stdout, sys.stderr]

    before, path, entries = state(), sys.path, sys.path[:]
    with contained("name"):
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 1000)
        os.umask(0o777)
        sys.setrecursionlimit(sys.getrecursionlimit() + 1)
        locale.setlocale(locale.LC_ALL, "C.UTF-8" if before[5] == "C" else "C")
        sys.path[:] = [str(tmp_path), *sys.path[3:]]
        sys.path = [".", *sys.path]
        sys.stdout.close()
        sys.stderr.close()
    assert state() == before
    assert not sys.stderr.closed
    assert signal.getitimer(signal.ITIMER_REAL)[0] < 900
    assert sys.path is path
    assert sys.path == [*entries, ".", str(tmp_path)]
    sys.path[:] = entries


def test_the_name_of_the_program_is_all_that_can_be_read_of_its_arguments() -> None:
    with contained("name"):
        assert (sys.argv[0], len(sys.argv)) == ("name", 1)
        for index in (1, -1, slice(1, None), slice(None)):
            with pytest.raises(Refused, match=r"sys\.argv"):
                sys.argv[index]


PARSES = "import argparse\nVALUE = argparse.ArgumentParser().parse_args()\n"
READS = "import sys\nVALUE = (sys.argv[1:], '--json' in sys.argv, sys.argv[:])\n"


@pytest.mark.parametrize("code", [PARSES, READS], ids=["parses", "reads"])
def test_an_installed_library_may_look_for_arguments_and_finds_none(code: str, tmp_path: Path) -> None:
    def execute(file: str) -> object:
        names = {"__name__": "some_library"}
        exec(compile(code, file, "exec"), names)
        return names["VALUE"]

    with contained("name"):
        found = execute(f"{sysconfig.get_path('purelib')}/some_library/__init__.py")
        assert found == (argparse.Namespace() if code == PARSES else ([], False, ["name"]))
        kept = sys.argv
        with pytest.raises(Refused, match=r"sys\.argv"):
            execute(str(tmp_path / "own.py"))
    assert kept[1:] == []


def test_children_may_end() -> None:
    with contained("name"):
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_child_does_not_go_on_with_the_command(tmp_path: Path) -> None:
    with contained("name"):
        child = os.fork()
    (tmp_path / str(os.getpid())).touch()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]


ENDS = """
import os, threading
kept = os._exit
def end(): os._exit(0)
def replace(): os.execvp("true", ["true"])
def in_a_child():
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def test_a_plugin_does_not_end_the_process_later(monkeypatch: pytest.MonkeyPatch) -> None:
    for call in module._ENDS:
        monkeypatch.setattr(os, call, getattr(os, call))
    in_thread: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: in_thread.append(failure.exc_type))
    names: dict[str, Any] = {"__name__": "some_plugin.inner"}
    with contained("some_plugin"):
        exec(ENDS, names)
    for call in ("end", "replace"):
        with pytest.raises(Refused, match=r"it calls os\.(_exit\(0\)|execv)"):
            names[call]()
    with pytest.raises(Refused):
        names["kept"](0)
    assert names["in_a_child"]() == 7
    thread = threading.Timer(0, names["kept"], [0])
    thread.start()
    thread.join()
    assert in_thread == [Refused]


def test_a_slow_import_is_named_with_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)
    with contained("my_plugin"):
        deadline = time.monotonic() + 10
        while "my_plugin" not in (said := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert said.startswith("importing the plug-in my_plugin takes more than 0.01 s; it is at ")
    assert "test_contained.py, line" in said or "capture" in said
