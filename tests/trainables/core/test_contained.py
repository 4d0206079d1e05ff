from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import sysconfig
import time
import warnings
from pathlib import Path

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
    assert before == (
        *(os.getcwd(), root.level, list(root.handlers), list(warnings.filters)),
        *(sys.stdin, sys.argv, sys.stdout),
    )
    assert root.manager.disable == logging.NOTSET
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


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
