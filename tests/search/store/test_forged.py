"""Records that lie: forged or flipped, they are damaged, named, and on no front."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from search.results.study import Study
from search.store import check
from search.store.records import Records
from tests.search import factories
from trainables.core.errors import RobustsearchError
from trainables.store import paths
from trainables.store.checksum import sealed
from trainables.store.records import Outcome, TrialRecord
from trainables.store.storage import Storage


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("template") / "synthetic"
    factories.make_study(directory, 3, troubled=False)
    return directory


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "runs" / "synthetic"))


def seen(study: Path) -> tuple[Any, ...]:
    """Return what a person sees of a study, and what is named as damaged."""
    opened = Study.open(str(study))
    table = opened.table("points").to_pylist(), opened.table("trials").to_pylist()
    return table, [row.point for row in opened.front()], [damaged.path for damaged in opened.damaged()]


def forge(path: Path, place: str, checksum: bool, **fields: Any) -> None:
    """Change a point of a record as somebody would who knows the format."""
    record = json.loads(path.read_bytes())
    record["points"][0].update(fields)
    for name in ("format", "checksum"):
        del record[name]
    text = json.dumps(record, indent=1)
    path.write_bytes(sealed(text, place) if checksum else text.encode())


FORGERIES: list[tuple[dict[str, Any], str]] = [
    ({"robust_accuracy": 0.999}, "robust_accuracy 0.999, but"),
    ({"sparsity": 0.999}, "sparsity 0.999, but"),
    ({"eps": 0.3}, "eps 0.3, but the study measures with 0.1"),
    ({"eps_text": "0.3"}, "eps_text '0.3', but the study measures with '0.1'"),
    ({"norm": "l2"}, "norm 'l2', but the study measures with 'linf'"),
    ({"attack": "PGD-1"}, "attack 'PGD-1', but the study measures with 'PGD-20'"),
    ({"split": "test"}, "split 'test', but the study measures with 'validation'"),
    ({"tier": "confirmed"}, "tier confirmed: a search confirms nothing"),
    ({"tier": "screened"}, "tier screened, but the study does not screen"),
]


@pytest.mark.parametrize(("fields", "reason"), FORGERIES)
def test_a_forged_outcome_is_damaged_and_on_no_front(study: Path, fields: dict[str, Any], reason: str) -> None:
    place = paths.outcome(1)
    forge(study / place, place, checksum=True, **fields)
    opened = Study.open(str(study))
    (damaged,) = opened.damaged()
    assert damaged.path == place
    assert damaged.reason.startswith(f"point 0: {reason}")
    assert 1 not in {row.trial for row in opened.points()}
    (named,) = [fault for fault in check.faults(Storage(str(study))) if fault.path == place]
    assert (named.kind, named.message) == ("outcome", damaged.reason)


def test_a_record_without_its_checksum_is_no_older_record(study: Path) -> None:
    place = paths.outcome(1)
    forge(study / place, place, checksum=False)
    (damaged,) = Study.open(str(study)).damaged()
    assert damaged.reason == "its checksum is missing: it was edited, or is damaged"


def test_a_record_of_another_trial_is_damaged(study: Path) -> None:
    shutil.copy(study / paths.outcome(0), study / paths.outcome(1))
    (damaged,) = Study.open(str(study)).damaged()
    assert damaged.path == paths.outcome(1)


def test_a_trial_that_contradicts_its_parameters_is_damaged(study: Path) -> None:
    path = study / paths.trial_record(2)
    record = json.loads(path.read_bytes())
    record["params"]["recipe.sparsity"] = 0.31
    for name in ("format", "checksum"):
        del record[name]
    path.write_bytes(sealed(json.dumps(record), paths.trial_record(2)))
    (damaged,) = Study.open(str(study)).damaged()
    assert damaged.reason.startswith("params.recipe.sparsity is 0.31, but the trial has ")


@pytest.mark.slow
@pytest.mark.parametrize("name", [paths.trial_record(1), paths.outcome(1), paths.STUDY])
def test_a_flipped_bit_changes_nothing_that_is_shown(study: Path, name: str) -> None:
    content, before = (study / name).read_bytes(), seen(study)
    missed = []
    for bit in range(5, 8 * len(content), 8 * len(content) // 40):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        if not _noticed(study, name, bytes(flipped)) and seen(study) != before:
            missed.append(bit)
    assert missed == []


def _noticed(study: Path, name: str, content: bytes) -> bool:
    (study / name).write_bytes(content)
    try:
        return bool(seen(study)[2] == [name])
    except RobustsearchError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [(paths.trial_record(1), TrialRecord), (paths.outcome(1), Outcome)])
def test_every_flipped_bit_is_noticed(study: Path, name: str, kind: type[TrialRecord] | type[Outcome]) -> None:
    records = Records.open(Storage(str(study)))
    content = (study / name).read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        assert records.wrong(bytes(flipped), kind, 1)[1], bit


def test_records_open_again_as_they_were_written(study: Path) -> None:
    records = Records.open(Storage(str(study)))
    assert records.damaged() == []
    assert records.fingerprint.digests
    assert [outcome is not None for _, outcome in records.trials()] == [True] * 3
