"""The command line as a process: what it imports, where it may stand, and what happens when a reader leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.search.factories import make_study

HEAVY = ("torch", "ray", "optuna", "pandas", "matplotlib", "sklearn", "moocore")
SCRIPT = Path(sys.executable).with_name("robustsearch")
STUDY = "name: mine\ndata: digits\nmodel: lenet300\nrecipe: three_stage\n"


def python(code: str, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, in a directory."""
    return subprocess.run(
        [sys.executable, "-c", code, *args], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


LOADED = f"""
import sys
from search.cli import main
try:
    main(sys.argv[1:])
except SystemExit as error:
    print("exit", error.code)
print("heavy", [name for name in {HEAVY!r} if name in sys.modules])
"""

BLOCKED = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None
from search.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "args", [["--help"], ["launch", "--help"], ["validate", "--no-networks", "my.yaml"], ["studies"]]
)
def test_the_light_commands_load_nothing_heavy(args: list[str], tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(STUDY)
    result = python(LOADED, *args, cwd=tmp_path)
    assert result.stderr == ""
    assert result.stdout.splitlines()[-2:] == ["exit 0", "heavy []"]


@pytest.mark.slow
@pytest.mark.parametrize("args", [["--help"], ["validate", "my.yaml"]])
def test_help_and_validate_need_nothing_heavy_installed(args: list[str], tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(STUDY)
    result = python(BLOCKED, *args, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "mine" in result.stdout or "launch" in result.stdout


@pytest.fixture
def script() -> str:
    if not SCRIPT.is_file():
        pytest.skip(f"the package is not installed: no {SCRIPT.name} beside {sys.executable}")
    return str(SCRIPT)


@pytest.mark.slow
@pytest.mark.parametrize("args", [["--help"], ["validate", "my.yaml"]])
def test_modules_of_our_names_in_the_current_directory_change_nothing(
    args: list[str], script: str, tmp_path: Path
) -> None:
    for name in ("search", "trainables", "clusters"):
        (tmp_path / f"{name}.py").write_text(f"open('imported-{name}', 'w')\nraise RuntimeError('the wrong {name}')\n")
    (tmp_path / "my.yaml").write_text(STUDY)
    result = subprocess.run([script, *args], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.glob("imported-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("args", [["export", "synthetic"], ["front", "synthetic"], ["export", "synthetic", "--json"]])
def test_a_reader_that_leaves_ends_the_command_quietly(args: list[str], tmp_path: Path) -> None:
    make_study(tmp_path / "synthetic", 4)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        result = subprocess.run(
            [sys.executable, "-c", "import sys; from search.cli import main; main()", *args],
            stdout=closed,
            stderr=subprocess.PIPE,
            env={**os.environ, "ROBUSTSEARCH_STORAGE": str(tmp_path)},
            text=True,
            timeout=60,
            check=False,
        )
    assert result.stderr == ""
    assert result.returncode == 141


FULL = "cannot write to stdout: No space left on device"
CLOSED = "cannot write to stdout: Bad file descriptor"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("--help >/dev/full", 5, FULL),
        ("validate quickstart >/dev/full", 5, FULL),
        ("studies --json >/dev/full", 5, FULL),
        ("export synthetic >/dev/full", 5, FULL),
        ("validate quickstart >&-", 5, CLOSED),
        ("validate absent.yaml >&-", 2, "cannot read absent.yaml"),
        ("validate absent.yaml 2>&-", 2, ""),
        ("validate absent.yaml 2>/dev/full", 2, ""),
        ("validate quickstart 2>&-", 0, ""),
        ("status <&- >&- 2>&-", 5, ""),
    ],
)
def test_streams_that_cannot_be_written_to_end_in_one_line(line: str, code: int, says: str, tmp_path: Path) -> None:
    make_study(tmp_path / "synthetic", 4)
    start = f"{sys.executable} -c 'from search.cli import main; main()' "
    environment = {**os.environ, "ROBUSTSEARCH_STORAGE": str(tmp_path)}
    result = subprocess.run(
        ["sh", "-c", start + line], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == code
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == bool(says)


@pytest.mark.slow
def test_help_ends_quietly_when_its_reader_leaves(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        code = "import sys; from search.cli import main; main()"
        result = subprocess.run(
            [sys.executable, "-c", code, "--help"], stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.slow
def test_a_directory_that_was_deleted_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; os.rmdir({str(gone)!r}); from search.cli import main; main(['status'])"
    result = python(code, cwd=gone)
    assert result.returncode == 5
    assert result.stderr.splitlines() == ["error: the current directory no longer exists; change to another one"]


ENDLESS = """
import atexit, sys, threading
from search.cli import main, root
root.EXIT_SECONDS = 0.2
threading.Thread(target=threading.Event().wait).start()
atexit.register(threading.Event().wait)
sys.argv[1:] = ["status", "nowhere"]
main()
"""


@pytest.mark.slow
def test_what_a_plugin_leaves_running_does_not_keep_a_command_from_ending(tmp_path: Path) -> None:
    result = python(ENDLESS, cwd=tmp_path)
    assert result.returncode == 2
    assert "there is no study 'nowhere'" in result.stderr


LATE = """
import atexit, os, sys
from search.cli import main
atexit.register(lambda: print("late"))
atexit.register(os.system, "echo by a child")
sys.argv[1:] = ["status", "--json"]
main()
"""


@pytest.mark.slow
def test_what_is_printed_after_the_answer_goes_to_stderr(tmp_path: Path) -> None:
    result = python(LATE, cwd=tmp_path)
    assert json.loads(result.stdout)["studies"] == []
    assert sorted(result.stderr.splitlines()[-2:]) == ["by a child", "late"]
