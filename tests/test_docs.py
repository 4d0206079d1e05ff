"""The manual says what the code does: every key with its type and default, every column, every example."""

from __future__ import annotations

import importlib
import inspect
import re
import signal
import types
import typing
from pathlib import Path
from typing import Any

import annotated_types
import pytest
from pydantic.fields import FieldInfo

import search
from search.cli import main
from search.cluster import spec as cluster_spec
from search.cluster.carriers.kubernetes.fields import Head, Volume, WorkerGroup
from search.early_stopping import SCHEDULERS, Scheduler
from search.results.confirmed import ConfirmedRow
from search.results.exporters import EXPORTERS, TRACKERS
from search.results.table import PointRow, TrialRow, columns
from search.samplers import SAMPLERS, Sampler
from search.space.parameters import PARAMETERS, Parameter
from search.store.catalogue import STORAGE_VARIABLE
from search.study import changes
from search.study import spec as study_spec
from tests.pages import CLUSTER_FILE, MANUAL, PAGES, READABLE, ROOT, STUDY_FILE, section
from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.core.errors import DataError, Diverged, ExitCode, SpecError, StorageError, TimedOut, failure_class
from trainables.core.registry import Registry
from trainables.core.spec import Eps, Spec, plain
from trainables.data import DATASETS
from trainables.data.base import Data
from trainables.data.cache import CACHE_VARIABLE
from trainables.data.files import DATA_VARIABLE
from trainables.losses import LOSSES
from trainables.losses.base import Loss
from trainables.mask_updates import MASK_UPDATES
from trainables.mask_updates.base import MaskUpdate
from trainables.measure.sanity_checks import SEVERITY
from trainables.method.imitation import Imitation
from trainables.method.protocol import Protocol
from trainables.method.schedules import SCHEDULES, Schedule
from trainables.method.screening import Screening
from trainables.method.training import Training
from trainables.metrics import MEASURES, METRICS
from trainables.metrics.base import Metric
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.optimisers import OPTIMISERS
from trainables.optimisers.base import Optimiser
from trainables.pruning import LAYERS, PRUNERS, Pruning
from trainables.pruning.base import Pruner
from trainables.pruning.densities import LayerDensities
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe
from trainables.regularisers import REGULARISERS
from trainables.regularisers.base import Regulariser
from trainables.reparametrisations import REPARAMETRISATIONS
from trainables.reparametrisations.base import Reparametrisation
from trainables.store.flags import FLAGS

RECIPES_PAGE = "recipes.md"


def test_every_test_that_bears_out_a_guarantee_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (MANUAL / "reliability.md").read_text()))
    there = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert len(named) > 20
    assert named <= there, named - there


def written(value: Any) -> str:
    """Write a default as a study file would."""
    if isinstance(value, Spec):
        fields = plain(value, defaults=False)
        if isinstance(fields, str):
            return fields
        return fields["kind"] if list(fields) == ["kind"] else f"{{{_pairs(fields)}}}"
    if isinstance(value, Eps):
        return value.text
    if isinstance(value, dict):
        return f"{{{_pairs(value)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(written, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def _pairs(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {written(value)}" for name, value in fields.items())


def allowed(field: FieldInfo) -> str:
    """Write what a field accepts."""
    return _type(field.annotation, field.metadata)


def _type(annotation: Any, metadata: Any) -> str:
    registry = next((item for item in metadata if isinstance(item, Registry)), None)
    if registry is not None:
        return registry.family
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        # A field constraint written as `Field(...)` inside of a union or a tuple.
        unfolded = [part for item in more for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return _type(inner, [*unfolded, *metadata])
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{written(choice)}`" for choice in typing.get_args(annotation))
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        arms = typing.get_args(annotation)
        return ", ".join("`null`" if arm is types.NoneType else _type(arm, metadata) for arm in arms)
    if typing.get_origin(annotation) is tuple:
        return f"list of {_type(typing.get_args(annotation)[0], ())}"
    if typing.get_origin(annotation) is dict or (isinstance(annotation, type) and issubclass(annotation, Spec)):
        return "mapping"
    names = {Eps: "radius", bool: "`true`, `false`", int: "int", float: "float", str: "text"}
    return " ".join([names[annotation], *([bounds] if (bounds := _bounds(metadata)) else [])])


def _bounds(metadata: Any) -> str:
    signs = {annotated_types.Gt: (">", "gt"), annotated_types.Ge: (">=", "ge")}
    signs |= {annotated_types.Lt: ("<", "lt"), annotated_types.Le: ("<=", "le")}
    found = [
        (sign, getattr(item, name)) for kind, (sign, name) in signs.items() for item in metadata if type(item) is kind
    ]
    return ", ".join(f"{sign} {written(limit)}" for sign, limit in found)


Row = tuple[str, str]


def own(text: str) -> str:
    """Return what stands before the first heading of a text."""
    return re.split(r"^#", text, maxsplit=1, flags=re.M)[0]


def rows(text: str) -> dict[str, Row]:
    """Return type and default by key of a text's tables of keys."""
    found = re.findall(r"^\| `(\w+)` \| (.+?) \| (required|`.+?`) \| \S.* \|$", text, re.M)
    return {key: (kind, default) for key, kind, default in found}


def fields(spec: type[Spec]) -> dict[str, Row]:
    """Return type and default by key of a spec."""
    found = {}
    for name, field in spec.model_fields.items():
        if name != "kind":
            default = (
                "required" if field.is_required() else f"`{written(field.get_default(call_default_factory=True))}`"
            )
            found[field.alias or name] = (allowed(field), default)
    return found


SPECS: list[tuple[str, str, type[Spec]]] = [
    (STUDY_FILE, "## The study", study_spec.StudySpec),
    (STUDY_FILE, "## Budget", study_spec.Budget),
    (STUDY_FILE, "## Timeouts", study_spec.Timeouts),
    (STUDY_FILE, "## Protocol", Protocol),
    (STUDY_FILE, "## Screening", Screening),
    (STUDY_FILE, "## Training", Training),
    (RECIPES_PAGE, "## Pruning", Pruning),
    (RECIPES_PAGE, "## Imitation", Imitation),
    (CLUSTER_FILE, "#### Workers", WorkerGroup),
    (CLUSTER_FILE, "#### Head", Head),
    (CLUSTER_FILE, "#### Volumes", Volume),
]


@pytest.mark.parametrize(("page", "heading", "spec"), SPECS)
def test_every_key_stands_in_its_table_with_type_and_default(page: str, heading: str, spec: type[Spec]) -> None:
    assert rows(own(section(page, heading))) == fields(spec)


def test_every_key_of_a_study_has_a_description_in_the_schema_for_editors() -> None:
    pending: list[Any] = [study_spec.json_schema()]
    found, bare = 0, []
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            for name, field in node.get("properties", {}).items():
                found += 1
                if name != "kind" and not ({"description", "$ref"} & set(field)):
                    bare.append(name)
        pending += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    assert found > 300
    assert not bare


REGISTRIES: list[tuple[str, str, Registry[Any], type[Spec]]] = [
    (STUDY_FILE, "## Data", DATASETS, Data),
    (STUDY_FILE, "## Models", MODELS, Model),
    (STUDY_FILE, "## Optimisers", OPTIMISERS, Optimiser),
    (STUDY_FILE, "## Schedules", SCHEDULES, Schedule),
    (STUDY_FILE, "## Losses", LOSSES, Loss),
    (STUDY_FILE, "## Attacks", ATTACKS, Attack),
    (STUDY_FILE, "## Metrics", METRICS, Metric),
    (STUDY_FILE, "## Regularisers", REGULARISERS, Regulariser),
    (STUDY_FILE, "## Samplers", SAMPLERS, Sampler),
    (STUDY_FILE, "## Early stopping", SCHEDULERS, Scheduler),
    (STUDY_FILE, "## Space", PARAMETERS, Parameter),
    (RECIPES_PAGE, "## All recipes", RECIPES, Recipe),
    (RECIPES_PAGE, "## Pruners", PRUNERS, Pruner),
    (RECIPES_PAGE, "## Layer densities", LAYERS, LayerDensities),
    ("mask-updates.md", "# Mask updates", MASK_UPDATES, MaskUpdate),
    (RECIPES_PAGE, "## Reparametrisations", REPARAMETRISATIONS, Reparametrisation),
    (CLUSTER_FILE, "# The cluster file", cluster_spec.CLUSTERS, cluster_spec.Cluster),
]


@pytest.mark.parametrize(("page", "heading", "registry", "base"), REGISTRIES)
def test_every_kind_is_described_with_the_keys_of_its_own(
    page: str, heading: str, registry: Registry[Any], base: type[Spec]
) -> None:
    text, shared = section(page, heading), fields(base)
    assert rows(own(text)) == shared
    ours = {kind: spec for kind, spec in registry.items() if spec.__module__.startswith(("trainables.", "search."))}
    for kind, spec in ours.items():
        special = {key: row for key, row in fields(spec).items() if shared.get(key) != row}
        if special:
            assert rows(own(section(page, f"### `{kind}`", text))) == special, kind
        else:
            bullets = re.findall(r"^- ((?:`\w+`(?:, )?)+):", own(text), re.M)
            assert any(f"`{kind}`" in bullet for bullet in bullets), f"{page} does not list {registry.family} {kind}"


@pytest.mark.parametrize(
    ("heading", "kind"),
    [("## Points and front", PointRow), ("## Trials", TrialRow), ("## Confirmed points", ConfirmedRow)],
)
def test_every_column_is_described_in_its_order(
    heading: str, kind: type[PointRow] | type[TrialRow] | type[ConfirmedRow]
) -> None:
    described = re.findall(r"^\| `(\w+)` \| \S", section("columns.md", heading), re.M)
    assert described == [column.name for column in columns(kind)]


def test_every_measure_flag_and_class_of_failure_is_described() -> None:
    assert all(f"`{measure}`" in section(STUDY_FILE, "## Objectives and constraints") for measure in MEASURES)
    flags = re.findall(r"^\| `(\w+)` \| (\w+) \| (\S.*) \| (yes|) \|$", section("columns.md", "## Flags"), re.M)
    assert {flag: severity for flag, severity, _, _ in flags} == SEVERITY
    assert flags == [(name, f.severity, f.meaning, "yes" if f.questions else "") for name, f in FLAGS.items()]
    classes = set(re.findall(r"^\| `(\w+)` \| \S", section("reliability.md", "## Trials that fail"), re.M))
    errors: list[BaseException] = [
        MemoryError(),
        TimedOut(),
        Diverged(),
        DataError(),
        StorageError(),
        SpecError(),
        ValueError(),
    ]
    assert classes == {*map(failure_class, errors), "crashed"}


def test_what_is_said_to_be_changeable_is_what_may_change() -> None:
    said = re.search(r"launched again with another (.+?), and with", section(STUDY_FILE, "## The study"), re.S)
    assert said
    assert tuple(re.findall(r"`(\w+)`", said[1])) == changes.MAY_CHANGE


def test_every_command_is_described_with_its_options_and_no_other() -> None:
    headings = re.findall(r"^## `([\w-]+)`$", PAGES["commands.md"], re.M)
    assert sorted(headings) == sorted(main.commands)
    for name, command in main.commands.items():
        known = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        described = set(re.findall(r"--[a-z][a-z-]*", section("commands.md", f"## `{name}`")))
        assert described == known - {"--storage", "--json"}, name


def test_formats_variables_gauges_and_exit_codes_are_described() -> None:
    assert all(f"`{kind}`" in section("commands.md", "## `export`") for kind in (*EXPORTERS, *TRACKERS))
    assert STORAGE_VARIABLE in PAGES["commands.md"]
    assert all(f"`{name}`" in PAGES[CLUSTER_FILE] for name in (DATA_VARIABLE, CACHE_VARIABLE))
    gauges = re.findall(r'Gauge\(\s*"(\w+)"', (ROOT / "search" / "launch" / "gauges.py").read_text(encoding="utf-8"))
    assert len(gauges) == 12
    assert all(f"| `{gauge}{{" in section(CLUSTER_FILE, "## Monitoring") for gauge in gauges)
    codes = {int(code) for code in re.findall(r"\d+", " ".join(_first_cells(section("commands.md", "## Exit codes"))))}
    assert codes == set(ExitCode)
    assert {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)} <= codes


def _first_cells(text: str) -> list[str]:
    return [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]


def test_every_argument_of_the_python_api_is_described() -> None:
    arguments = set(inspect.signature(search.launch).parameters) - {"study"}
    assert set(re.findall(r"^\| `(\w+)` \|", section("python.md", "## Launch"), re.M)) == arguments


def test_every_kit_and_registry_that_plug_ins_name_exists() -> None:
    named = set(re.findall(r"`((?:trainables|search)(?:\.\w+)+\.[A-Z]\w+)`", PAGES["plug-ins.md"]))
    assert len(named) > 30
    for path in named:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path


RECIPE_PAGES = sorted((ROOT / "docs" / "recipes").glob("*.md"))


@pytest.mark.parametrize("page", RECIPE_PAGES, ids=lambda page: page.stem)
def test_every_page_of_a_recipe_has_the_same_sections_and_is_linked(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert page.stem in RECIPES
    assert text.startswith(f"# {page.stem}: ")
    headings = ["What the paper claims", "What is implemented", "How we differ, and why", "What we found"]
    assert re.findall(r"^## (.+)$", text, re.M) == headings
    assert f"(../recipes/{page.name})" in section(RECIPES_PAGE, f"### `{page.stem}`")
    assert f"(docs/recipes/{page.name})" in READABLE["README.md"]


def test_the_readme_lists_every_recipe_of_ours_once() -> None:
    ours = [kind for kind, spec in RECIPES.items() if spec.__module__.startswith("trainables.")]
    listed = re.findall(r"^\| \[?`(\w+)`", READABLE["README.md"], re.M)
    assert sorted(listed) == sorted(ours)


def test_every_decision_is_listed_and_short() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(path for path in folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\) \| (.+?) \|", index)
    titles = [(path.name, path.read_text(encoding="utf-8").splitlines()[0].partition(": ")[2]) for path in records]
    assert listed == titles
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 30, path.name
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences")), path.name
