from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.store import check
from search.store import confirmations as reading
from search.store.repair import repair
from tests.search.command import run
from tests.search.confirmations import attack, confirmation, make_confirmed_study
from trainables.store import confirmations
from trainables.store.storage import Storage

RESULTS = [confirmation([True, False, True]), attack("square", [True, False, False], [True, False, True])]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path))
    for result in RESULTS:
        confirmations.write(storage, result)
    return storage


def test_results_are_read_as_they_were_written(storage: Storage) -> None:
    storage.write("confirm/seed-1/study.yaml", b"name: seed-1\n")
    storage.write(f"confirm/{RESULTS[0].weights_sha256}/all/square.json.1234.tmp", b"half")
    assert reading.read(storage) == reading.Confirmations(tuple(RESULTS), ())


def test_nothing_is_read_where_nothing_was_confirmed(tmp_path: Path) -> None:
    assert reading.read(Storage(str(tmp_path))) == reading.Confirmations((), ())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], "JSON"),
        (lambda content: content.replace(b'"seconds": 1.5', b'"seconds": 0.5'), "checksum differs"),
        (lambda content: content.replace(b'"schema": 1', b'"schema": 9'), "schema 9 is unknown"),
    ],
)
def test_a_damaged_result_is_listed_and_does_not_count(storage: Storage, damage, reason: str) -> None:  # type: ignore[no-untyped-def]
    path = RESULTS[1].place()
    storage.write(path, damage(storage.read(path)))
    found = reading.read(storage)
    assert found.found == (RESULTS[0],)
    assert [bad.path for bad in found.damaged] == [path]
    assert reason in found.damaged[0].reason


def test_a_result_that_contradicts_itself_is_listed_with_the_reason_alone(storage: Storage) -> None:
    path = RESULTS[1].place()
    storage.write(path, storage.read(path).replace(b'"started": "', b'"started": "x'))
    assert reading.read(storage).damaged[0].reason == "a time is not in ISO 8601"


def test_a_result_in_the_place_of_another_does_not_count(storage: Storage) -> None:
    path = RESULTS[1].place().replace("square", "fab")
    storage.write(path, storage.read(RESULTS[1].place()))
    assert [bad.path for bad in reading.read(storage).damaged] == [path]


def test_a_damaged_result_is_named_by_doctor_and_status_and_set_aside_by_repair(tmp_path: Path) -> None:
    study = make_confirmed_study(tmp_path / "synthetic", 6, seeds=1)
    path = next(tmp_path.glob("synthetic/confirm/*/all/square.json"))
    path.write_bytes(path.read_bytes()[:50])
    (path.parent / "fmn.json.0123456789.tmp").write_bytes(b"half")
    place = path.relative_to(tmp_path / "synthetic").as_posix()
    (bad,) = (fault for fault in check.faults(study.records.storage) if fault.kind == "confirmation")
    assert (bad.path, bad.harmless) == (place, True)
    doctor = run("doctor", "synthetic", "--storage", tmp_path)
    assert place in doctor.stdout
    shown = json.loads(run("status", "synthetic", "--storage", tmp_path, "--json").stdout)
    assert [each["path"] for each in shown["damaged_confirmations"]] == [place]
    assert place in run("status", "synthetic", "--storage", tmp_path).stdout
    found = repair(study.records.storage)
    assert ("set aside", place) in {(action.what, action.path) for action in found.actions}
    assert not path.exists()
    assert not list(path.parent.glob("*.tmp"))
    assert not [fault for fault in check.faults(study.records.storage) if "confirm" in fault.path]
