"""Studies with plug-ins: only a launch and what checks one execute them, and each of their failures is named."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import search.results.exporters  # noqa: F401  (its registry is one of those that are restored)
from search import Study
from search.results.exporters.runs import runs
from search.store.records import Records
from search.store.study_yaml import utc_now
from search.study import file as study_file
from tests.search.command import run
from tests.search.factories import make_study
from tests.search.tiny import FIELDS as TINY
from trainables.core import plugins, registry
from trainables.core.spec import plain
from trainables.models import MODELS
from trainables.recipes.trial import keyed_phases
from trainables.store import paths
from trainables.store.records import TrialRecord
from trainables.store.storage import Storage

TRIALS = 12
SCRIPT = Path(sys.executable).with_name("robustsearch")

KINDS = """
open("ran", "w").close()
from typing import Annotated, Literal
from pydantic import Field, create_model
from search.early_stopping.registry import SCHEDULERS
from search.results.exporters import EXPORTERS
from search.samplers.registry import SAMPLERS
from trainables.attacks import ATTACKS
from trainables.data import DATASETS
from trainables.losses import LOSSES
from trainables.metrics import METRICS
from trainables.models import MODELS
from trainables.optimisers import OPTIMISERS
from trainables.pruning import PRUNERS
from trainables.recipes import RECIPES
from trainables.regularisers import REGULARISERS

for table, kind in (
    (MODELS, "lenet300"), (RECIPES, "three_stage"), (DATASETS, "digits"), (ATTACKS, "pgd"), (LOSSES, "trades"),
    (OPTIMISERS, "sgd"), (PRUNERS, "magnitude"), (REGULARISERS, "l1"), (METRICS, "spectrum"), (SAMPLERS, "qmc"),
    (SCHEDULERS, "moasha"), (EXPORTERS, "csv"),
):
    own = f"my_{kind}"
    more = {"kind": (Literal[own], own), "my_field": (float, 0.5), "my_table": (dict[str, list[int]], {"a": [1]})}
    table.register(own, create_model(own, __base__=table[kind], **more))
"""

FIELDS: dict[str, Any] = {
    "name": "own",
    "plugins": ["my_kinds"],
    "data": {"kind": "my_digits", "my_field": 0.25},
    "model": {"kind": "my_lenet300", "hidden": [16], "my_field": 0.1},
    "recipe": {
        "kind": "my_three_stage",
        "my_table": {"b": [2, 3]},
        "prune": {"pruner": "my_magnitude"},
        "train": {
            "loss": {"kind": "my_trades", "beta": 3.0},
            "optimiser": "my_sgd",
            "attack": {"kind": "my_pgd", "steps": 1},
            "regularisers": {"my_l1": {"weight": 1e-5}},
        },
    },
    "space": {
        "recipe.sparsity": {"kind": "float", "low": 0.0, "high": 0.98},
        "model.my_field": {"kind": "float", "low": 0.1, "high": 0.2},
        "recipe.train.loss": {"kind": "categorical", "choices": ["madry", "my_trades"]},
    },
    "protocol": {"attack": {"kind": "my_pgd", "steps": 2}, "metrics": ["my_spectrum"]},
    "sampler": "my_qmc",
    "early_stopping": "my_moasha",
}


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    """A study in the current directory, all of whose kinds are those of a plug-in that this process has not imported.

    Importing it leaves a file `ran`.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_kinds.py").write_text(KINDS)
    before = [(table, dict(table._table)) for table in registry._registries]
    records = make_study(tmp_path / "runs" / "own", TRIALS, study_file.from_dict(FIELDS))
    records.issue(unfinished(records))
    forget(before)
    yield records
    forget(before)


def unfinished(records: Records) -> TrialRecord:
    """Return the record of a trial of a study, with its own keys, which has no outcome."""
    params = {"recipe.sparsity": 0.5, "model.my_field": 0.15, "recipe.train.loss": "madry"}
    spec = records.spec.trial(params)
    keys = tuple(step.key for step in keyed_phases(spec, records.fingerprint.data_hash))
    return TrialRecord(
        number=TRIALS, study="own", params=params, spec=plain(spec), keys=keys, seed=spec.seed, issued=utc_now()
    )


def forget(tables: list[tuple[Any, dict[str, Any]]]) -> None:
    for table, content in tables:
        table._table = dict(content)
    sys.modules.pop("my_kinds", None)
    plugins._loaded.discard("my_kinds")
    Path("ran").unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("there", [True, False], ids=["there", "absent"])
@pytest.mark.parametrize(
    "command",
    [
        "status own",
        "status",
        "front own",
        "export own --what points",
        "export own --what trials --format latex",
        "doctor own",
        "repair own",
        "gc own --dry-run",
        "gc own",
        "stop own",
        "optuna own",
        "report own --output report.html",
        "compare own twin",
    ],
)
def test_reading_a_study_executes_no_plugin(stored: Records, command: str, there: bool) -> None:
    if not there:
        Path("my_kinds.py").unlink()
    shutil.copytree("runs/own", "runs/twin")
    result = run(*command.split(), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)
    assert not Path("ran").exists()


def test_runs_for_trackers_execute_no_plugin(stored: Records) -> None:
    found = runs(Study.open("runs/own"))
    assert [run.params for run in found] == [record.params for record, _ in stored.trials()]
    assert found[-1].state == "waiting"
    assert not Path("ran").exists()


def test_kinds_that_are_unknown_keep_their_fields(stored: Records) -> None:
    study = Study.open("runs/own")
    assert study.spec.resolved() == stored.spec.resolved()
    assert study_file.dump(study.spec) == study_file.dump(stored.spec)
    assert study.spec == Study.open("runs/own").spec
    assert study.spec.recipe.my_table == {"b": [2, 3]}  # type: ignore[attr-defined]
    assert len(study.front()) >= 3
    assert [row.params for row in study.front()] == [row.params for row in Study(stored).front()]
    assert not Path("ran").exists()
    with pytest.raises(Exception, match="frozen"):
        study.spec.model.my_field = 1  # type: ignore[attr-defined]
    with pytest.raises(plugins.SpecError, match="model 'my_lenet300' is unknown here: it is defined by a plug-in"):
        study.spec.model.network((1, 8, 8), 10)


def test_a_stored_study_whose_plugins_were_taken_out_by_hand_is_told_as_edited(stored: Records) -> None:
    file = Path("runs/own/study.yaml")
    file.write_text(re.sub("^plugins:.*", "plugins: []", file.read_text(), flags=re.M))
    result = run("front", "own")
    assert result.exit_code == 5
    assert "edited since it was written" in result.stderr


def test_doctor_says_what_is_missing_and_that_nothing_is_damaged(stored: Records) -> None:
    Path("my_kinds.py").unlink()
    result = run("doctor", "own")
    assert result.exit_code == 0
    assert "its plug-ins are neither installed here nor in the current directory (my_kinds)" in result.stdout
    assert "damaged" not in result.stdout
    assert "intact" in result.stdout


def test_launching_needs_the_plugin(stored: Records) -> None:
    Path("my_kinds.py").unlink()
    before = Path("runs/own/study.yaml").read_bytes()
    for words in (["launch", "own", "--cluster", "inline"], ["launch", "own", "--dry-run"]):
        result = run(*words, "--json")
        assert result.exit_code == 2
        assert "the plug-in my_kinds cannot be imported" in json.loads(result.stdout)["error"]["message"]
    assert Path("runs/own/study.yaml").read_bytes() == before


@pytest.mark.slow
def test_a_truncated_trial_is_rebuilt_only_with_the_plugins(stored: Records) -> None:
    torn = Path("runs/own") / paths.trial_record(TRIALS)
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-40])
    result = run("repair", "own")
    assert result.exit_code == 5
    assert "`robustsearch repair own --plugins` imports the study's plug-ins and can rebuild it" in result.stderr
    assert torn.read_bytes() == whole[:-40]
    Path("runs").rename("moved")
    assert f"`robustsearch repair own --storage {Path.cwd()}/moved --plugins` imports" in (
        run("repair", "own", "--storage", "moved").stderr
    )
    Path("moved").rename("runs")
    assert not Path("ran").exists()
    result = run("repair", "own", "--plugins")
    assert result.exit_code == 0, result.stderr
    assert Path("ran").exists()
    assert json.loads(torn.read_bytes())["keys"] == json.loads(whole)["keys"]


def test_the_format_of_a_plugin_is_found_where_it_is_asked_for(stored: Records) -> None:
    assert run("export", "own", "--format", "my_csv").stdout == run("export", "own", "--format", "csv").stdout
    assert Path("ran").exists()


def test_an_absent_format_of_a_plugin_is_named(stored: Records) -> None:
    Path("my_kinds.py").unlink()
    result = run("export", "own", "--format", "my_csv")
    assert result.exit_code == 2
    assert "the plug-in my_kinds cannot be imported" in result.stderr


EXITS = "import sys\nprint('on its way')\nsys.exit(3)\n"


@pytest.mark.parametrize("command", ["validate study.yaml", "launch study.yaml --dry-run", "launch study.yaml"])
def test_a_plugin_that_exits_is_a_mistake_of_the_study(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it_exits.py").write_text(EXITS)
    (tmp_path / "study.yaml").write_text(json.dumps({**TINY, "plugins": ["it_exits"]}))
    words = [*command.split(), *(["--cluster", "inline"] if "launch" in command else [])]
    result = run(*words, "--json")
    assert result.exit_code == 2
    message = json.loads(result.stdout)["error"]["message"]
    assert "plugins[0]: the plug-in it_exits cannot be imported: it_exits.py, line 3: it calls sys.exit(3)" in message
    assert "on its way" in result.stderr


FAILS = """
import sys
from typing import Literal
from pydantic import field_validator
from trainables.models import MODELS
from trainables.models.lenet import LeNet300
class Mine(LeNet300):
    kind: Literal['fails_late'] = 'fails_late'
    @field_validator("hidden")
    @classmethod
    def check(cls, value):
        {how}
MODELS.register('fails_late', Mine)
"""


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("sys.exit(0)", "it calls sys.exit(0)"),
        ("1 / 0", "ZeroDivisionError: "),
        ("raise GeneratorExit", "GeneratorExit"),
        ("open('/absent_of_test')", "FileNotFoundError: [Errno 2] No such file or directory: '/absent_of_test'"),
        ("__import__('os')._exit(0)", "it calls os._exit(0)"),
    ],
)
def test_a_plugin_that_fails_later_is_named_with_its_line(
    how: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"late_{abs(hash(how))}"
    (tmp_path / f"{name}.py").write_text(FAILS.replace("{how}", how))
    fields = {**TINY, "plugins": [name], "model": {"kind": "fails_late", "hidden": [8]}, "space": {}}
    (tmp_path / "study.yaml").write_text(json.dumps(fields))
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))
    result = run("validate", "study.yaml", "--json")
    plugins._loaded.discard(name)
    assert result.exit_code == 2, result.output
    message = json.loads(result.stdout)["error"]["message"]
    assert message.startswith(f"the plug-in {name} failed: {name}.py, line 12: {what}")


PRINTS = """
import os
from typing import Literal
from trainables.models import MODELS
from trainables.models.lenet import LeNet300
class Talks(LeNet300):
    kind: Literal['talks'] = 'talks'
    def model_post_init(self, context):
        print('checked')
    def network(self, shape, classes):
        print('built')
        os.write(1, b'by the system')
        return super().network(shape, classes)
MODELS.register('talks', Talks)
"""


@pytest.mark.slow
def test_what_the_methods_of_plugins_print_is_no_part_of_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))
    (tmp_path / "it_talks.py").write_text(PRINTS)
    fields = {**TINY, "plugins": ["it_talks"], "model": {"kind": "talks", "hidden": [8]}, "budget": {"trials": 1}}
    (tmp_path / "study.yaml").write_text(json.dumps(fields))
    for words in (["validate", "study.yaml"], ["launch", "study.yaml", "--cluster", "inline"]):
        result = run(*words, "--json")
        assert result.exit_code == 0, result.output
        assert "error" not in json.loads(result.stdout)
        assert "checked" in result.stderr
    assert "built" in result.stderr
    assert "by the system" not in (written := capfd.readouterr()).out
    assert "by the system" in written.err


def test_a_network_that_exits_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))
    (tmp_path / "net_exits.py").write_text(
        PRINTS.replace("print('built')", "raise SystemExit(0)").replace("talks", "exits_when_built")
    )
    fields = {**TINY, "plugins": ["net_exits"], "model": {"kind": "exits_when_built", "hidden": [8]}}
    (tmp_path / "study.yaml").write_text(json.dumps(fields))
    result = run("validate", "study.yaml", "--json")
    assert result.exit_code == 2
    message = json.loads(result.stdout)["error"]["message"]
    assert message.endswith("SystemExit: 0 (in the plug-in net_exits: net_exits.py, line 11)")


CANARIES = ("random", "json", "ray", "torch", "numpy", "search", "trainables", "clusters", "sitecustomize", "yaml")


def hostile(folder: Path) -> None:
    """Fill a folder with modules whose names others import, which leave a file where they are executed."""
    for name in CANARIES:
        (folder / f"{name}.py").write_text(f"open({str(folder / name)!r} + '.ran', 'w').close()\n")
    (folder / "my_kinds.py").write_text(KINDS.replace('"ran"', repr(str(folder / "ran"))))
    (folder / "study.yaml").write_text(
        json.dumps({**TINY, "plugins": ["my_kinds"], "model": {"kind": "my_lenet300", "hidden": [8]}})
    )


def process(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *words], cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
def test_of_the_current_directory_nothing_but_plugins_is_executed_by_validate(tmp_path: Path) -> None:
    hostile(tmp_path)
    done = process(tmp_path, "validate", "study.yaml")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.rglob("*ran")] == ["ran"]


@pytest.mark.slow
def test_of_the_current_directory_nothing_but_plugins_is_executed_by_a_launch(tmp_path: Path) -> None:
    hostile(tmp_path)
    for words in (("--dry-run",), ("--cluster", "inline", "--trials", "1")):
        done = process(tmp_path, "launch", "study.yaml", *words)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in tmp_path.rglob("*ran")] == ["ran"]
    (tmp_path / "ran").unlink()
    for words in (
        ("front", "tiny"),
        ("doctor", "tiny"),
        ("plot", "tiny"),
        ("report", "tiny"),
        ("model", "tiny", "0.0", "--output", "net"),
    ):
        done = process(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        assert not list(tmp_path.rglob("*ran"))


@pytest.mark.slow
def test_a_crash_of_the_interpreter_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "it_crashes.py").write_text("import ctypes\nctypes.string_at(0)\n")
    (tmp_path / "study.yaml").write_text(json.dumps({**TINY, "plugins": ["it_crashes"]}))
    done = process(tmp_path, "validate", "study.yaml")
    assert done.returncode not in (0, 1, 2)
    assert "Fatal Python error" in done.stderr
    assert '/it_crashes.py", line 2' in done.stderr


def test_the_study_is_read_by_its_directory(stored: Records) -> None:
    assert Records.open(Storage("runs/own")).spec.plugins == ("my_kinds",)
