from __future__ import annotations

import os
import py_compile
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainables.core import plugins
from trainables.core.errors import ExitCode
from trainables.core.plugins import PluginError, blamed, find, given, load, loaded, name_problem, source
from trainables.models import MODELS

Write = Callable[[str], str]

MODEL = """
from typing import Literal
from trainables.models import MODELS
from trainables.models.lenet import Linear
class Mine(Linear):
    kind: Literal['mine_of_test'] = 'mine_of_test'
MODELS.register('mine_of_test', Mine)
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Return a function that writes a plug-in under a new name into the current directory, and returns the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))
    before = set(sys.modules)

    def new(code: str) -> str:
        name = f"plugin_{uuid.uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(code)
        return name

    yield new
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refused(name: str, *more: str) -> str:
    with pytest.raises(PluginError) as raised:
        load([name, *more], os.getcwd())
    assert raised.value.exit_code == ExitCode.BAD_INPUT
    assert raised.value.plugin == name
    text = str(raised.value)
    start = f"the plug-in {name} cannot be imported: "
    assert text.startswith(start)
    return text.removeprefix(start).replace(name, "NAME")


PRUNER = """from trainables.pruning import PRUNERS
from trainables.pruning.base import Pruner
class Own(Pruner):
"""
SCRIPT = 'put what only a script does below `if __name__ == "__main__":`'

BAD = [
    ("import sys\nsys.exit()", f"NAME.py, line 2: it calls sys.exit(None); {SCRIPT}"),
    ("import sys\nsys.exit(0)", f"NAME.py, line 2: it calls sys.exit(0); {SCRIPT}"),
    ("import sys\nsys.exit('no data')", f"NAME.py, line 2: it calls sys.exit('no data'); {SCRIPT}"),
    ("def f():\n  quit()\n\nf()", f"NAME.py, line 2: it calls sys.exit(None); {SCRIPT}"),
    (
        "import argparse\nargparse.ArgumentParser().parse_args()",
        f"NAME.py, line 2: it reads the arguments of the command (sys.argv); {SCRIPT}",
    ),
    (
        "import sys\nepochs = int(sys.argv[1])",
        f"NAME.py, line 2: it reads the arguments of the command (sys.argv); {SCRIPT}",
    ),
    (
        "import argparse\nargparse.ArgumentParser().parse_args(['--x'])",
        f"NAME.py, line 2: it calls sys.exit(2); {SCRIPT}",
    ),
    ("import os\nos._exit(0)", f"NAME.py, line 2: it calls os._exit(0); {SCRIPT}"),
    ("import os\nos.abort()", f"NAME.py, line 2: it calls os.abort(); {SCRIPT}"),
    ("import os\nos.execvp('true', ['true'])", "NAME.py, line 2: it calls os.exec"),
    ("raise KeyboardInterrupt", "NAME.py, line 1: KeyboardInterrupt"),
    ("raise GeneratorExit", "NAME.py, line 1: GeneratorExit"),
    ("import asyncio\nraise asyncio.CancelledError('x')", "NAME.py, line 2: CancelledError: x"),
    ("class Own(BaseException): pass\nraise Own('x')", "NAME.py, line 2: Own: x"),
    ("class E(Exception):\n  def __str__(self): 1 / 0\nraise E", "NAME.py, line 3: E: its message cannot be written"),
    ("input()", "NAME.py, line 1: EOFError: EOF when reading a line"),
    ("1 / 0", "NAME.py, line 1: ZeroDivisionError: division by zero"),
    ("import json\njson.loads('{')", "NAME.py, line 2: JSONDecodeError: "),
    ("def f(:\n", "NAME.py, line 1: SyntaxError: "),
    ("x = 1\0", "NAME.py: "),
    ("x = 1\n  y = 2", "NAME.py, line 2: IndentationError: unexpected indent"),
    ("x = '\\ud800'\nprint(x.encode())", "NAME.py, line 2: UnicodeEncodeError: "),
    ("def f(): f()\nf()", "NAME.py, line 1: RecursionError: "),
    ("raise Exception('x' * 10**6)", "NAME.py, line 1: Exception: xxx"),
    ("import absent_of_test", "NAME.py, line 1: ModuleNotFoundError: No module named 'absent_of_test'"),
    ("from trainables.models import Absent", "NAME.py, line 1: ImportError: cannot import name 'Absent'"),
    (MODEL.replace("mine_of_test", "lenet300"), "NAME.py, line 7: ValueError: model 'lenet300' is registered already"),
    (MODEL + "1 / 0\n", "NAME.py, line 8: ZeroDivisionError"),
    (
        "class E(Exception):\n  def __str__(self): raise SystemExit(0)\nraise E",
        "NAME.py, line 3: E: its message cannot be written",
    ),
    ("raise ValueError('one\\n  two\\n')", "NAME.py, line 1: ValueError: one; two"),
    (
        "from trainables.pruning import PRUNERS\nPRUNERS.register('own', 3)",
        "NAME.py, line 2: ValueError: pruner 'own': an object of int is not a subclass of trainables.pruning.base",
    ),
    (
        f"{PRUNER}  kind: str = 'own'\n  def scores(self): ...\nPRUNERS.register('own', Own)",
        "NAME.py, line 6: ValueError: pruner 'own': Own.scores cannot be called as (self, context): "
        "too many positional arguments",
    ),
    (
        f"{PRUNER}  def scores(self, context): ...\nPRUNERS.register('own', Own)",
        'NAME.py, line 5: ValueError: pruner \'own\': Own lacks its kind: add `kind: Literal["own"] = "own"`',
    ),
    (
        "from trainables.pruning import PRUNERS\nfrom trainables.pruning.base import Pruner\n"
        "class Own(Pruner):\n  kind: str = 'own'\nPRUNERS.register('own', Own)",
        "NAME.py, line 5: ValueError: pruner 'own': Own does not define `scores`, which every pruner needs",
    ),
]


@pytest.mark.parametrize(("code", "message"), BAD, ids=[code.splitlines()[-1][:40] for code, _ in BAD])
def test_an_import_that_fails_is_named_with_its_line(write: Write, code: str, message: str) -> None:
    known, argv, modules = dict(MODELS), sys.argv, set(sys.modules)
    name = write(code)
    text = refused(name)
    assert text.startswith(message)
    assert len(text) < 700
    assert dict(MODELS) == known
    assert sys.argv is argv
    assert name not in set(sys.modules) - modules
    assert not loaded([name])
    assert refused(name).startswith(message)  # Nothing of the first try is left.


def test_a_plugin_that_was_corrected_is_imported(write: Write, tmp_path: Path) -> None:
    name = write(MODEL + "1 / 0\n")
    refused(name)
    (tmp_path / f"{name}.py").write_text(MODEL + "# now without the mistake\n")
    load([name], os.getcwd())
    assert MODELS["mine_of_test"].__module__ == name
    assert loaded([name])
    load([name, name], os.getcwd())


PATH = "is a path; a plug-in is named as in an import statement"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "'' is not a name of a module"),
        (".x", "'.x' is not a name of a module"),
        ("a..b", "'a..b' is not a name of a module"),
        ("my-models", "'my-models' is not a name of a module"),
        ("class", "'class' is not a name of a module"),
        ("a b", "'a b' is not a name of a module"),
        (
            "plugins/foo.py",
            "'plugins/foo.py' is a path; a plug-in is named as in an import statement: write plugins.foo",
        ),
        ("./foo", "'./foo' is a path; a plug-in is named as in an import statement: write foo"),
        ("foo.py", "'foo.py' is a path; a plug-in is named as in an import statement: write foo"),
        ("../foo", "'../foo' is a path; a plug-in is named as in an import statement"),
        ("random", "'random' is a module of Python's standard library; give your module another name"),
        ("json.mine", "'json.mine' is a module of Python's standard library; give your module another name"),
        ("search", "'search' is a module of robustsearch or of a package that it uses; give your module another name"),
        ("torch", "'torch' is a module of robustsearch or of a package that it uses; give your module another name"),
        (
            "__main__",
            "'__main__' is a module of robustsearch or of a package that it uses; give your module another name",
        ),
        ("my_models", None),
        ("my.models", None),
        ("größe", None),
    ],
)
def test_names(name: str, problem: str | None) -> None:
    found = name_problem(name)
    assert found == problem or (problem is not None and found is not None and found.startswith(problem))
    if problem is not None:
        with pytest.raises(PluginError):
            load([name])


def test_a_missing_plugin_differs_from_a_missing_import(write: Write, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text("")
    where = "among the installed packages or the current directory"
    assert refused("my_modle") == f"ModuleNotFoundError: No module named 'NAME' {where}; did you mean 'my_model'?"
    assert f"No module named 'absent_of_test' {where} (for NAME)" in refused("absent_of_test.models")
    (tmp_path / "package_of_test").mkdir()
    (tmp_path / "package_of_test" / "__init__.py").write_text("")
    assert f"No module named 'NAME' {where}" in refused("package_of_test.x")


def test_of_the_current_directory_only_plugins_are_imported(write: Write, tmp_path: Path) -> None:
    (tmp_path / "helper_of_test.py").write_text("open('ran', 'w').close()\nVALUE = 1")
    name = write("import helper_of_test\n")
    text = refused(name)
    assert text.startswith(
        "NAME.py, line 1: ModuleNotFoundError: No module named 'helper_of_test'; helper_of_test lies in"
    )
    assert "list it in `plugins` too" in text
    assert not (tmp_path / "ran").exists()
    load([name, "helper_of_test"], os.getcwd())
    assert sys.modules[name].helper_of_test.VALUE == 1


def test_a_package_brings_its_modules(write: Write, tmp_path: Path) -> None:
    package = tmp_path / "whole_of_test"
    (package / "part").mkdir(parents=True)
    (package / "__init__.py").write_text("from whole_of_test.helper import VALUE\n")
    (package / "helper.py").write_text("VALUE = 2\n")
    (package / "broken.py").write_text("from . import helper\n\n1 / 0\n")
    load(["whole_of_test", "whole_of_test.helper"], os.getcwd())
    assert sys.modules["whole_of_test"].VALUE == 2
    place = Path("whole_of_test") / "broken.py"
    assert refused("whole_of_test.broken").startswith(f"{place}, line 3: ZeroDivisionError")
    assert refused("whole_of_test.part") == "whole_of_test/part is a folder without code; name a module in it"


def test_circular_imports_name_the_line(write: Write, tmp_path: Path) -> None:
    (tmp_path / "first_of_test.py").write_text("from second_of_test import B\nA = 1\n")
    (tmp_path / "second_of_test.py").write_text("\nfrom first_of_test import A\nB = 1\n")
    text = refused("first_of_test", "second_of_test")
    assert text.startswith("second_of_test.py, line 2: ImportError: cannot import name 'A' from partially")


def test_a_module_of_bytecode_alone_is_found(write: Write, tmp_path: Path) -> None:
    name = write("VALUE = 3\n")
    py_compile.compile(str(tmp_path / f"{name}.py"), cfile=str(tmp_path / f"{name}.pyc"))
    (tmp_path / f"{name}.py").unlink()
    load([name], os.getcwd())
    assert sys.modules[name].VALUE == 3
    assert find(name) == tmp_path / f"{name}.pyc"


def test_finding_executes_nothing(write: Write, tmp_path: Path) -> None:
    name = write("open('ran', 'w').close()")
    assert find(name) is None
    assert find(f"{name}.inner", str(tmp_path)) == tmp_path / f"{name}.py"
    assert find("absent_of_test", str(tmp_path)) is None
    assert not (tmp_path / "ran").exists()


def test_an_interrupt_by_the_user_is_no_failure_of_the_plugin(write: Write) -> None:
    name = write("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n")
    with pytest.raises(KeyboardInterrupt):
        load([name], os.getcwd())


def test_leaving_a_debugger_is_an_interrupt(write: Write) -> None:
    with pytest.raises(KeyboardInterrupt):
        load([write("import bdb\nraise bdb.BdbQuit")], os.getcwd())


def test_in_a_thread_the_same_errors_are_found(write: Write) -> None:
    found: list[Any] = []
    name = write("import sys\nsys.exit(3)")

    def work() -> None:
        try:
            load([name], os.getcwd())
        except PluginError as error:
            found.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "line 2: it calls sys.exit(3)" in found[0]


def test_errors_are_blamed_on_the_plugin_that_was_running(write: Write, tmp_path: Path) -> None:
    name = write("def work(f):\n  return f()\n")
    load([name], os.getcwd())

    def fail() -> None:
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError) as raised:
        sys.modules[name].work(fail)
    assert blamed(raised.value) == f"the plug-in {name} failed: {name}.py, line 2: ZeroDivisionError: here"
    assert source(raised.value) == f" (in the plug-in {name}: {name}.py, line 2)"
    with pytest.raises(ZeroDivisionError) as other:
        fail()
    assert blamed(other.value) is None
    assert source(other.value) == ""
    with pytest.raises(ValueError, match="wrapped") as wrapped:
        raise ValueError("wrapped") from raised.value
    assert source(wrapped.value) == f" (in the plug-in {name}: {name}.py, line 2)"


def test_the_class_of_a_plugin_is_named_whose_result_is_wrong(write: Write, tmp_path: Path) -> None:
    name = write(MODEL)
    load([name], os.getcwd())

    def use(model: object) -> None:
        raise ValueError("its result is wrong")

    def error(model: object) -> ValueError:
        with pytest.raises(ValueError, match="wrong") as raised:
            use(model)
        return raised.value

    wrapped = ValueError("in a small trial")
    wrapped.__cause__ = error(MODELS["mine_of_test"]())
    assert given(wrapped) == f" (the class Mine of the plug-in {name}: {name}.py, line 5)"
    assert given(error(MODELS["lenet300"]())) == ""
    assert given(error(None)) == ""


def test_a_deleted_current_directory_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert plugins.current_folder() is None


def test_signal_handlers_stay(write: Write) -> None:
    before = signal.getsignal(signal.SIGINT)
    load([write("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n")], os.getcwd())
    assert signal.getsignal(signal.SIGINT) is before
