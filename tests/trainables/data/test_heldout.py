"""Nothing but `confirm` reads the test split: held over the source, and over the files that are opened."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.trainables.data.made import LAYOUTS, TEST_FILE, write
from trainables.core.errors import DataError
from trainables.data import DATASETS
from trainables.data.base import Data
from trainables.data.cache import fingerprint
from trainables.data.heldout import load_test
from trainables.data.tensors import load

REPOSITORY = Path(__file__).parents[3]
KIT = "trainables/testing/data.py"
"""What tests a data set; nothing that trains or searches may import it."""
MAY_IMPORT_HELDOUT = {"trainables/worker/confirm.py", "trainables/worker/benchmark_entry.py", KIT}
MAY_CALL_READ_TEST = {"trainables/data/heldout.py", "trainables/data/base.py", KIT}
"""The base class compares the method with its own, to say before a confirmation that there is no test split."""


def imports_heldout(tree: ast.AST) -> bool:
    """Return whether a module names `heldout` in an import, or in a string that could be imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any("heldout" in alias.name.split(".") for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (
            "heldout" in (node.module or "").split(".") or any(alias.name == "heldout" for alias in node.names)
        ):
            return True
        if isinstance(node, ast.Attribute) and node.attr == "heldout":
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.split(".")[-1] == "heldout":
            return True
    return False


def calls_read_test(tree: ast.AST) -> bool:
    """Return whether a module uses `read_test` other than by defining it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "read_test":
            return True
        if isinstance(node, (ast.Name, ast.Constant)) and "read_test" in (getattr(node, "id", ""), _text(node)):
            return True
    return False


def asks_for_test_part(tree: ast.AST) -> bool:
    """Return whether files of the part `test` are asked for outside a method `read_test`."""
    for node in _outside_read_test(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            if node.func.attr in ("read", "find", "files") and any(_text(item) == "test" for item in arguments):
                return True
    return False


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _outside_read_test(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.FunctionDef) and child.name == "read_test"):
            yield child
            yield from _outside_read_test(child)


def offenders(check: Any) -> set[str]:
    """Return the modules of the project for which `check` holds."""
    files = [path for tree in ("search", "trainables") for path in (REPOSITORY / tree).rglob("*.py")]
    assert len(files) > 20
    return {
        path.relative_to(REPOSITORY).as_posix() for path in files if check(ast.parse(path.read_text(encoding="utf-8")))
    }


@pytest.mark.slow
def test_only_what_runs_confirmations_imports_the_module_that_reads_the_test_split() -> None:
    def imports_it(tree: ast.AST) -> bool:
        names = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
        return any(
            node.module == "trainables.worker.confirm"
            or (node.module == "trainables.worker" and any(alias.name == "confirm" for alias in node.names))
            for node in names
        )

    assert offenders(imports_it) == {"search/cluster/connection.py", "search/cluster/inline.py"}


@pytest.mark.slow
def test_only_confirm_imports_heldout() -> None:
    assert offenders(imports_heldout) <= MAY_IMPORT_HELDOUT


@pytest.mark.slow
def test_only_heldout_calls_read_test() -> None:
    assert offenders(calls_read_test) == MAY_CALL_READ_TEST


@pytest.mark.slow
def test_only_read_test_asks_for_test_files() -> None:
    assert offenders(asks_for_test_part) == set()


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (imports_heldout, "import trainables.data.heldout"),
        (imports_heldout, "import trainables.data.heldout as h"),
        (imports_heldout, "from trainables.data import heldout"),
        (imports_heldout, "def f():\n    from trainables.data.heldout import load_test"),
        (imports_heldout, "from . import heldout"),
        (imports_heldout, "import trainables.data as d\nd.heldout.load_test(spec)"),
        (imports_heldout, "import_module('trainables.data.heldout')"),
        (calls_read_test, "spec.read_test()"),
        (calls_read_test, "read = spec.read_test"),
        (calls_read_test, "getattr(spec, 'read_test')()"),
        (asks_for_test_part, "class A:\n    def read_training(self): return self.read('test')"),
        (asks_for_test_part, "spec.find(part='test')"),
    ],
)
def test_the_checks_find_violations(check: Any, source: str) -> None:
    assert check(ast.parse(source))
    assert not check(ast.parse("def read_test(self):\n    return self.read(part)"))


CHILD = """
import json, os, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(os.fspath(args[0])) if event == "open" and
                 isinstance(args[0], (str, os.PathLike)) else None)
from trainables.core.errors import DataError
from trainables.data import DATASETS
from trainables.data.base import Data
from trainables.data.cache import fingerprint
from trainables.data.heldout import load_test
from trainables.data.tensors import load
report = {}
for name, data in json.load(sys.stdin).items():
    spec = DATASETS.parse(data)
    start = len(opened)
    first, loaded = fingerprint(spec.located()), load(spec)
    middle = len(opened)
    load_test(spec)
    report[name] = {
        "training": opened[start:middle], "test": opened[middle:], "fingerprint": first[0],
        "split_hash": loaded.split_hash, "labels": loaded.train.y.tolist() + loaded.validation.y.tolist(),
    }
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Load every layout in another process and report what it opened and what it got."""
    root = tmp_path_factory.mktemp("audit")
    specs = {"digits": {"kind": "digits", "validation": 100}}
    for name in LAYOUTS:
        kind, _, _ = write(name, root / name)
        specs[name] = {"kind": kind, "root": str(root / name), "validation": 20}
    environment = {**os.environ, "ROBUSTSEARCH_CACHE": str(root / "cache"), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(specs),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return {"specs": specs, "report": json.loads(done.stdout)}


def below(root: str, opened: list[str]) -> tuple[set[str], set[str]]:
    """Split the opened files of a data set into those of the training and those of the test split."""
    names = [path.relative_to(root) for path in map(Path, opened) if path.is_relative_to(root)]
    test = {name.as_posix() for name in names if any(part.startswith(TEST_FILE) for part in name.parts)}
    return {name.as_posix() for name in names} - test, test


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_opens_no_test_file(layout: str, child: dict[str, Any]) -> None:
    root, report = child["specs"][layout]["root"], child["report"][layout]
    training, test = below(root, report["training"])
    assert test == set()
    spec = DATASETS.parse(child["specs"][layout])
    assert training == {path.relative_to(root).as_posix() for path in spec.training_files()}, "the hook saw them all"
    training, test = below(root, report["test"])
    assert training == set()
    assert test, "the hook sees a test file where one is read"


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["digits", *LAYOUTS])
def test_another_process_gets_the_same(layout: str, child: dict[str, Any]) -> None:
    report = child["report"][layout]
    loaded = load(DATASETS.parse(child["specs"][layout]))
    assert report["fingerprint"] == loaded.fingerprint
    assert report["split_hash"] == loaded.split_hash
    assert report["labels"] == loaded.train.y.tolist() + loaded.validation.y.tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_does_not_need_the_test_files(layout: str, tmp_path: Path) -> None:
    kind, _, _ = write(layout, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    removed = 0
    for path in sorted((tmp_path / "half").rglob("*")):
        parts = path.relative_to(tmp_path / "half").parts
        if path.is_file() and any(part.startswith(TEST_FILE) for part in parts):
            path.unlink()
            removed += 1
    assert removed
    whole, half = (DATASETS[kind](root=str(tmp_path / name)) for name in ("whole", "half"))
    assert fingerprint(whole) == fingerprint(half)


def test_digits_splits_share_no_image() -> None:
    spec = DATASETS["digits"]()
    training, test = spec.read_training(), spec.read_test()
    assert len(training[1]) == 1438
    assert len(test[1]) == 359
    assert not {image.tobytes() for image in training[0]} & {image.tobytes() for image in test[0]}


def test_test_order_is_fixed_and_mixes_classes(tmp_path: Path) -> None:
    kind, _, _ = write("image_folder", tmp_path)
    spec = DATASETS[kind](root=str(tmp_path), validation=20)
    first, again = load_test(spec), load_test(spec)
    assert first.y.tolist() == again.y.tolist()
    assert first.x.equal(again.x)
    assert first.y.tolist() != sorted(first.y.tolist()), "the folders are read class after class"


class TrainingOnly(Data):
    kind: Literal["training_only"] = "training_only"

    def read_training(self) -> Any:
        return np.zeros((4, 1, 2, 2), np.uint8), np.arange(4) % 2


def test_a_data_set_without_a_test_split_says_so_when_it_is_read() -> None:
    with pytest.raises(DataError, match="training_only has no test split; define `read_test`"):
        load_test(TrainingOnly())
