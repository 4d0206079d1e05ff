"""The rooms and which way they look, read from every import: nested ones and those for type checkers too."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rooms import FLOORS

ROOT = Path(__file__).parent.parent

SEEN_BY_SEARCH = {"", "core", "store", "method", "recipes", "metrics", "data", "models"}
"""The rooms of `trainables` that `search` sees; data and models for their registries."""

CARRIERS = {
    "search.launch.tune",
    "search.launch.inline",
    "search.cluster.connection",
    "search.cluster.inline",
    "search.cluster.probing",
    "search.cluster.runtime_env",
    "search.results.model_export",
    "search.results.benchmark_entry",
}
"""What starts trials or probes, or writes a network: these name the part of `trainables` that does it."""

ALLOWED_IN = {
    "ray": {
        "search.launch.gauges",
        "search.launch.monitoring",
        "search.launch.tune",
        "search.cluster.autoscaler",
        "search.cluster.carriers.ray_launcher",
        "search.cluster.connection",
        "search.cluster.probing",
        "search.cluster.runtime_env",
        "search.cluster.ray_start",
        "trainables.worker.tune_trainable",
    },
    "optuna": {
        "search.samplers.optuna",
        "search.samplers.optuna.database",
        "search.samplers.optuna.importance",
        "search.samplers.optuna.study",
    },
    "click": {"search.cli"},
}

OLD_NAMES = {
    "search.exporters",
    "search.scheduling",
    "trainables.models.saved",
    "trainables.models.shrunk",
    "trainables.phases",
    "trainables.weights",
}
"""Modules that plug-ins and notebooks may import by the name they had before; they hold nothing of their own."""

TORCH_FREE = (
    "trainables.core",
    "trainables.method",
    "trainables.recipes",
    "trainables.store.paths",
    "trainables.store.storage",
    "trainables.store.lease",
    "trainables.store.records",
    "trainables.store.stages",
)


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _sources(package: str) -> dict[str, ast.Module]:
    return {_name(path): ast.parse(path.read_text()) for path in sorted((ROOT / package).rglob("*.py"))}


MODULES = {package: _sources(package) for package in FLOORS}
KNOWN = {name for sources in MODULES.values() for name in sources}


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield every module that a source imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in KNOWN else node.module for name in inner)


def _room(module: str) -> str:
    """Return the room that a module of `search` or `trainables` is in; the packages themselves are none."""
    return module.split(".")[1] if module.count(".") else ""


def _arrows(package: str) -> Iterator[tuple[str, str]]:
    for name, tree in MODULES[package].items():
        if name not in OLD_NAMES:
            yield from ((name, other) for other in _imports(tree) if other.split(".")[0] in FLOORS)


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_a_floor(package: str) -> None:
    rooms = {_room(name) for name in MODULES[package] if name not in OLD_NAMES} - {""}
    assert rooms == set(FLOORS[package].split())


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_import_from_lower_floors_only(package: str) -> None:
    floor = {room: at for at, line in enumerate(FLOORS[package].strip().splitlines()) for room in line.split()}
    wrong = []
    for name, other in _arrows(package):
        here, there = _room(name), _room(other)
        if other.split(".")[0] == package and "" not in (here, there) and here != there and floor[there] <= floor[here]:
            wrong.append(f"{name} imports {other}")
    assert not wrong


@pytest.mark.parametrize("package", FLOORS)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES[package]}
    for name, other in _arrows(package):
        if other in graph and other != name:
            graph[name].add(other)
    graphlib.TopologicalSorter(graph).prepare()


def test_trainables_never_imports_search() -> None:
    assert not [arrow for arrow in _arrows("trainables") if arrow[1].split(".")[0] == "search"]


def test_search_sees_what_describes_trials_and_what_they_leave() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, other in _arrows("search")
        if other.split(".")[0] == "trainables" and _room(other) not in SEEN_BY_SEARCH and name not in CARRIERS
    ]
    assert not wrong


@pytest.mark.parametrize("library", list(ALLOWED_IN))
def test_a_library_is_imported_where_it_belongs_only(library: str) -> None:
    users = {
        name
        for sources in MODULES.values()
        for name, tree in sources.items()
        if any(imported.split(".")[0] == library for imported in _imports(tree))
    }
    if library == "click":
        users = {".".join(name.split(".")[:2]) for name in users}
    assert users == ALLOWED_IN[library]


def test_only_one_module_imports_what_a_study_names() -> None:
    """Foreign code is imported where its failures are caught; the others import known modules or a kit's user's."""
    users = {
        name
        for sources in MODULES.values()
        for name, tree in sources.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "import_module"
    }
    kits = {"search.testing.samplers", "search.testing.schedulers", "trainables.worker.prestart"}
    assert users - kits == {"search", "search.launch.code", "search.launch.doctor", "trainables.core.plugins"}


def _imports_at_import(name: str) -> Iterator[str]:
    """Yield what importing a module imports: nothing in functions, nothing for type checkers."""
    pending: list[ast.AST] = [MODULES[name.split(".")[0]][name]]
    while pending:
        for node in ast.iter_child_nodes(pending.pop()):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                continue
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                yield from _imports(ast.Module([node], []))
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                pending.append(node)


@pytest.mark.parametrize("root", TORCH_FREE)
def test_what_only_describes_imports_no_torch(root: str) -> None:
    pending = [name for name in MODULES["trainables"] if name == root or name.startswith(f"{root}.")]
    assert pending
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        for other in _imports_at_import(name):
            assert other.split(".")[0] != "torch", f"{name}, which {root} imports, imports torch"
            # Importing a module imports the packages around it.
            around = [".".join(other.split(".")[:depth]) for depth in range(1, other.count(".") + 2)]
            pending += [module for module in around if module in MODULES["trainables"] and module not in seen]
            seen.update(around)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("trainables.recipes.trial", "torch torchvision ray optuna sklearn pandas search"),
        ("search.cli", "torch ray optuna pandas matplotlib sklearn pyarrow"),
        ("search.study.file", "torch ray optuna pandas matplotlib sklearn pyarrow"),
        ("search.results.study", "torch ray optuna pandas matplotlib sklearn"),
        ("trainables.worker.run", "ray optuna pandas search"),
        ("search.launch.tune", "torch optuna sklearn mlflow wandb"),
    ],
)
@pytest.mark.slow
def test_importing_a_module_loads_no_more_than_it_needs(module: str, absent: str) -> None:
    code = f"import sys, {module}; print(*[name for name in '{absent}'.split() if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
