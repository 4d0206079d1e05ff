"""The dependency direction, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ALLOWED_IN = {
    "ray": {"search.ray_runner", "search.ray_cluster", "trainables.tune_trainable"},
    "optuna": {"search.sampling", "search.samplers", "search.own_samplers"},
    "click": {"search.cli"},
}

# From the bottom up; a module imports from its own rank or below.
TRAINABLES = (
    "base errors paths rng metrics.names notice activations __init__",
    "registry keys versions outcome storage",
    "lease",
    "attacks regularisers data models pruning.base pruning.densities pruning.rates pruning.scores pruning.saliency "
    "pruning.mad pruning.__init__ weights",
    "training",
    "metrics imitation rewirings",
    "phases",
    "recipes",
    "spec rungs screening",
    "state precision chains channels pruning.patterns tangent",
    "metering",
    "folding losses checks inheriting pruning.network pruning.filters noise",
    "pruning.curvature",
    "latents pruning.cut",
    "optimisers",
    "validation awp selection",
    "rewire",
    "train evaluate stages work models.saved models.shrunk",
    "imitate",
    "measuring",
    "run",
    "probe tune_trainable",
)
SEARCH = (
    "yaml_file messages watchdog pareto ordering __init__",
    "problems",
    "fields space cluster_spec scheduling",
    "halving reach",
    "expectation gaussian improvement",
    "encoding",
    "candidates",
    "belief",
    "ehvi",
    "samplers own_samplers",
    "rim objectives",
    "study_spec",
    "study_file sampling stopping screening lease ray_cluster lessons matching",
    "records",
    "table sharing",
    "housekeeping",
    "driver",
    "study catalogue status progress exporters scaffold damage",
    "plot console takeaway ray_runner repair",
    "warm_start extension",
    "launch ending",
    "planning",
    "doctor",
    "cli",
)


def _modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__") if name.count(".") > 1 else name, ast.parse(path.read_text())


def _imports(tree: ast.AST, package: str, *, nested: bool = True) -> Iterator[str]:
    """Yield the modules that a source imports; those for type checkers alone are left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}".replace(".", "/")
                known = (ROOT / f"{inner}.py").exists() or (ROOT / inner).is_dir()
                yield f"{node.module}.{alias.name}" if known else node.module
        if nested or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _imports(node, package, nested=nested)


def _rank(module: str, ladder: tuple[str, ...], package: str) -> int:
    """Return the rank of the longest entry that names the module or a package around it."""
    rest = module.removeprefix(f"{package}.") if module != package else "__init__"
    ranks = {entry: rank for rank, entries in enumerate(ladder) for entry in entries.split()}
    exact = rest if rest in ranks else f"{rest}.__init__" if f"{rest}.__init__" in ranks else None
    if exact is None:
        exact = max((entry for entry in ranks if rest.startswith(f"{entry}.")), key=len, default=None)
    assert exact is not None, f"{module} has no rank: give it one in {Path(__file__).name}"
    return ranks[exact]


@pytest.mark.parametrize(("package", "ladder"), [("trainables", TRAINABLES), ("search", SEARCH)])
def test_modules_import_from_below_only(package: str, ladder: tuple[str, ...]) -> None:
    upward = [
        f"{name} imports {imported}"
        for name, tree in _modules(package)
        for imported in _imports(tree, package, nested=False)
        if imported.split(".")[0] == package and _rank(imported, ladder, package) > _rank(name, ladder, package)
    ]
    assert not upward


def test_every_rank_names_what_exists() -> None:
    for package, ladder in (("trainables", TRAINABLES), ("search", SEARCH)):
        for entry in " ".join(ladder).split():
            path = ROOT / package / entry.replace(".", "/")
            assert path.with_suffix(".py").exists() or path.is_dir(), f"{package}.{entry} is gone"


def test_trainables_never_imports_search() -> None:
    assert not [
        name for name, tree in _modules("trainables") if any(i.split(".")[0] == "search" for i in _imports(tree, ""))
    ]


@pytest.mark.parametrize("library", list(ALLOWED_IN))
def test_a_library_is_imported_where_it_belongs_only(library: str) -> None:
    users = {
        name
        for package in ("search", "trainables")
        for name, tree in _modules(package)
        if any(imported.split(".")[0] == library for imported in _imports(tree, package))
    }
    assert users == ALLOWED_IN[library]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("trainables.spec", "torch torchvision ray optuna sklearn pandas search"),
        ("search.cli", "torch ray optuna pandas matplotlib sklearn pyarrow"),
        ("search.study_file", "torch ray optuna pandas matplotlib sklearn pyarrow"),
        ("search.study", "torch ray optuna pandas matplotlib sklearn"),
        ("trainables.run", "ray optuna pandas search"),
    ],
)
@pytest.mark.slow
def test_importing_a_module_loads_no_more_than_it_needs(module: str, absent: str) -> None:
    code = f"import sys, {module}; print(*[name for name in '{absent}'.split() if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
