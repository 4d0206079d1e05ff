"""The tests lie as the sources do, share no helpers but through modules without tests, and keep Ray in one folder."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

OF_SEVERAL = {
    "search/cli/test_commands.py": "all commands on studies that lie on disk",
    "search/cli/test_plugins.py": "all commands on studies with plug-ins",
    "search/cli/test_process.py": "the command line as a process",
    "search/cli/test_suggestions.py": "the commands that messages of all modules suggest",
    "search/cluster/test_kinds.py": "a new kind of cluster",
    "search/early_stopping/test_collapse.py": "every scheduler on a search whose networks collapse",
    "search/launch/test_reads.py": "how often commands read a study",
    "search/store/test_forged.py": "records that lie, from their files to what a person sees",
    "search/store/test_old_formats.py": "what released versions have written",
    "trainables/data/test_layouts.py": "data sets in every layout of their files",
    "trainables/data/test_real.py": "data sets that are on few machines",
    "trainables/engine/test_gpu.py": "trainings on a GPU beside the CPU",
    "trainables/metrics/test_geometry.py": "metrics of the logits' geometry",
}
"""Tests that are of no single module, and what they are of instead."""

TESTS = sorted(
    path.relative_to(ROOT / "tests").as_posix()
    for package in ("search", "trainables")
    for path in (ROOT / "tests" / package).rglob("test_*.py")
)


@pytest.mark.parametrize("test", TESTS)
def test_a_test_is_named_after_the_module_that_it_tests(test: str) -> None:
    path = ROOT / test
    name = path.stem.removeprefix("test_")
    # A room's own test, such as recipes/test_recipes.py, tests what its package makes of its modules.
    room = path.parent / "__init__.py" if path.parent.name == name else path
    found = [path.with_name(f"{name}.py"), path.parent / name / "__init__.py", room]
    assert any(module.is_file() for module in found) != (test in OF_SEVERAL), "rename it, or name it in OF_SEVERAL"


def _names(path: Path) -> list[str]:
    """Return the modules that a file imports, and every text in it, which may be code that imports."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def test_no_test_imports_another_one() -> None:
    """Helpers of several tests lie in factories, so that a test can move or go without them."""
    users = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        texts = [text.replace(own, "") for text in _names(path)]
        users += [f"{path.name}: {text}" for text in texts if "tests." in text and ".test_" in text]
    assert users == []


def test_no_benchmark_needs_a_test() -> None:
    assert not [path.name for path in (ROOT / "benchmarks").rglob("*.py") if "from tests" in path.read_text()]


def test_ray_is_started_by_tests_of_the_integration_only() -> None:
    marked = {
        path.relative_to(ROOT / "tests").parts[0]
        for path in (ROOT / "tests").rglob("test_*.py")
        if any(
            isinstance(node, ast.Attribute) and node.attr == "ray" and ast.unparse(node) == "pytest.mark.ray"
            for node in ast.walk(ast.parse(path.read_text()))
        )
    }
    assert marked == {"integration"}
