"""Studies as every released version wrote them: each can be opened, listed, exported, repaired and resumed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from search.launch.driver import Driver
from search.launch.plan import plan
from search.store.records import Records
from tests.search.command import run
from trainables.store.stages import Stages
from trainables.store.storage import Storage

STUDIES = Path(__file__).parents[2] / "fixtures" / "studies"
FRONTS = {"schema-1": ["t1.0", "t2.1", "t0.1", "t0.2"]}
"""By study, the front that the version which wrote it printed, but for trial 3, whose end was taken out."""
UNFINISHED = {"schema-1": 3}


@pytest.fixture(params=sorted(path.name for path in STUDIES.iterdir()))
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(STUDIES / request.param, tmp_path / request.param))


def test_every_schema_that_was_released_has_a_study() -> None:
    assert sorted(path.name for path in STUDIES.iterdir()) == sorted(FRONTS)


def test_it_is_listed_and_exported(study: Path) -> None:
    here = {"ROBUSTSEARCH_STORAGE": str(study.parent)}
    found = run("front", study.name, "--json", **here)
    assert found.exit_code == 0, found.stderr
    assert [row["point"] for row in json.loads(found.stdout)["front"]] == FRONTS[study.name]
    status = json.loads(run("status", study.name, "--json", **here).stdout)
    assert (status["complete"], status["waiting"], status["damaged"]) == (3, 1, 0)
    rows = list(csv.DictReader(io.StringIO(run("export", study.name, "--format", "csv", **here).stdout)))
    assert {row["trial"] for row in rows} == {"0", "1", "2"}
    assert all(0 <= float(row["robust_accuracy"]) <= float(row["clean_accuracy"]) <= 1 for row in rows)


@pytest.mark.slow
def test_its_networks_can_be_exported(study: Path) -> None:
    point = FRONTS[study.name][-1]
    result = run("model", study.name, point, "--output", study.parent / "net", ROBUSTSEARCH_STORAGE=str(study.parent))
    assert result.exit_code == 0, result.stderr
    written = {path.name for path in (study.parent / "net").iterdir()}
    assert written == {"README.md", "examples.csv", "model.json", "model.pt2", "model.safetensors"}


def test_it_is_undamaged_and_resumes(study: Path) -> None:
    here = {"ROBUSTSEARCH_STORAGE": str(study.parent)}
    assert run("doctor", study.name, **here).exit_code == 0
    assert run("repair", study.name, **here).exit_code == 0
    records = Records.open(Storage(str(study)))
    number = UNFINISHED[study.name]
    issued = json.loads((study / "trials" / f"{number:05d}" / "trial.json").read_bytes())
    record = Driver(records).next()
    assert record is not None
    assert (record.number, record.params) == (number, issued["params"])
    stages = Stages(Storage(str(study)))
    stored = [key for key in issued["keys"] if stages.load(key) is not None]
    assert stored, "what it has stored is read"


def test_it_keeps_the_keys_and_the_size_of_its_trainings(study: Path) -> None:
    """Studies of today leave out filters that were pruned whole, which changes keys."""
    stored = Records.open(Storage(str(study)))
    assert stored.spec.shrink is stored.spec.sparse is None
    again = plan(study.name, storage=study.parent)
    assert again.spec.shrink is again.spec.sparse is None
    assert not again.spec.trial(dict(stored.trials()[0][0].params)).shrink
    new = plan(study.name, storage=study.parent, name="another")
    assert new.spec.shrink is True
    assert new.spec.trial(dict(stored.trials()[0][0].params)).shrink
