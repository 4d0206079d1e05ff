from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.store.records import Damaged, Records
from search.store.study_yaml import StudyDamaged
from tests.object_server import ObjectServer
from tests.search import factories
from trainables.core.errors import SpecError, StorageError
from trainables.store import paths
from trainables.store.records import Outcome, TrialRecord
from trainables.store.storage import Storage


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records.create(Storage(str(tmp_path / "study")), factories.study_spec(), factories.FINGERPRINT)


def reopened(records: Records) -> Records:
    return Records.open(Storage(records.storage.location))


def raw(records: Records, path: str, content: bytes) -> None:
    records.storage.write(path, content)


def test_study_reads_back_equal(records: Records) -> None:
    again = reopened(records)
    assert again.spec == records.spec
    assert again.fingerprint == records.fingerprint
    assert again.fingerprint.data_hash == factories.DATA_HASH


def test_study_is_created_once(records: Records) -> None:
    with pytest.raises(StorageError, match="holds a study already"):
        Records.create(records.storage, factories.study_spec(seed=9), factories.FINGERPRINT)
    assert reopened(records).spec.seed == 0


@pytest.mark.slow
def test_a_study_file_cut_anywhere_is_no_other_study(records: Records) -> None:
    content = records.storage.read(paths.STUDY)
    for cut in range(0, len(content.rstrip()) - 1, 5):
        raw(records, paths.STUDY, content[:cut])
        with pytest.raises(StorageError, match=r"truncated or edited.*`robustsearch repair|records of schema"):
            reopened(records)


def test_a_study_file_of_the_first_release_has_no_digest(records: Records) -> None:
    lines = records.storage.read(paths.STUDY).decode().splitlines(keepends=True)
    raw(records, paths.STUDY, "".join(line for line in lines if "digest" not in line).encode())
    assert reopened(records).spec == records.spec


def test_budget_may_grow_and_the_fingerprint_stays(records: Records) -> None:
    records.replace_spec(factories.study_spec(budget={"trials": 99}))
    assert reopened(records).spec.budget.trials == 99
    assert reopened(records).fingerprint == records.fingerprint


def test_no_study_is_said_clearly(tmp_path: Path) -> None:
    assert not Records.exist(Storage(str(tmp_path)))
    with pytest.raises(StorageError, match="holds no study"):
        Records.open(Storage(str(tmp_path / "nowhere")))
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        Records.open(Storage(str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("schema: 1\n  data_hash", "schema: 2\n  data_hash", StorageError, "records of schema 2"),
        ("made_with", "made_by", StudyDamaged, "`made_with` is missing"),
        ("data_hash", "data_hush", StudyDamaged, "made_with.data_hash"),
        ("name: synthetic", "name: ../../x", StudyDamaged, "edited since it was written"),
        ("name: synthetic", "name: !!python/object:os.system x", StudyDamaged, "tags"),
        ("name: synthetic", "name: [", StudyDamaged, "study.yaml:"),
        ("trials: 16", "trials: 17", StudyDamaged, "edited since it was written"),
        ("budget:", "# budget:", StudyDamaged, "study.yaml:"),
    ],
)
def test_damaged_study_file_is_refused_by_name(
    records: Records, old: str, new: str, error: type[Exception], message: str
) -> None:
    text = records.storage.read(paths.STUDY).decode()
    assert old in text
    raw(records, paths.STUDY, text.replace(old, new, 1).encode())
    with pytest.raises(error, match=message):
        reopened(records)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"\xff\xfe", b"made_with: 3", b"made_with: {schema: [[[]]]}"])
def test_study_file_of_another_shape_is_refused(records: Records, content: bytes) -> None:
    raw(records, paths.STUDY, content)
    with pytest.raises((SpecError, StorageError)):
        reopened(records)


def test_trials_come_back_in_order_with_their_outcomes(records: Records) -> None:
    for number in range(12):
        records.issue(factories.trial(number))
    for number in (10, 2, 0):
        assert records.write_outcome(factories.outcome(number))
    for view in (records, reopened(records)):
        assert [trial.number for trial, _ in view.trials()] == list(range(12))
        assert [trial.number for trial, outcome in view.trials() if outcome] == [0, 2, 10]
        assert view.unfinished() == [1, 3, 4, 5, 6, 7, 8, 9, 11]
        assert view.next_number() == 12
        assert view.damaged() == []
        assert view.trials()[2] == (factories.trial(2), factories.outcome(2))


def test_trials_that_vanish_under_a_launch_are_an_error_and_not_a_new_beginning(records: Records) -> None:
    for number in range(3):
        records.issue(factories.trial(number))
    shutil.rmtree(records.storage.location)
    with pytest.raises(StorageError, match="3 of 3 trials are missing"):
        records.next_number()


def test_a_lost_trial_file_is_no_gap_for_the_next(records: Records) -> None:
    records.issue(factories.trial(0))
    records.storage.delete(paths.trial_record(0))
    raw(records, paths.outcome(0), factories.outcome(0).json_bytes())
    view = reopened(records)
    assert view.next_number() == 1
    view.issue(factories.trial(1))


def test_number_is_issued_once(records: Records) -> None:
    records.issue(factories.trial(0))
    other = factories.trial(
        0, params={"recipe.sparsity": 0.31, "recipe.train.eps": 0.1, "recipe.train.loss.kind": "madry"}
    )
    with pytest.raises(StorageError, match=r"trial 0 .* issued already"):
        reopened(records).issue(other)
    assert reopened(records).trials()[0][0] == factories.trial(0)


def test_numbers_leave_no_gap(records: Records) -> None:
    with pytest.raises(AssertionError, match="gap"):
        records.issue(factories.trial(1))


def test_second_outcome_is_ignored_and_reported(records: Records) -> None:
    records.issue(factories.trial(0))
    assert records.write_outcome(factories.outcome(0))
    assert not records.write_outcome(factories.outcome(0, failure=factories.failure()))
    assert not reopened(records).write_outcome(factories.outcome(0, seconds=9))
    assert records.outcome(0) == reopened(records).outcome(0) == factories.outcome(0)


def test_outcome_written_by_a_worker_is_seen(records: Records) -> None:
    records.issue(factories.trial(0))
    assert records.outcome(0) is None
    assert records.unfinished() == [0]
    # A worker writes through the storage alone.
    Storage(records.storage.location).claim(paths.outcome(0), factories.outcome(0).json_bytes())
    assert records.outcome(0) == factories.outcome(0)
    assert records.unfinished() == []


def test_killed_between_write_and_rename_leaves_the_trial_unfinished(records: Records) -> None:
    records.issue(factories.trial(0))
    raw(records, f"{paths.outcome(0)}.0a1b.tmp", b'{"schema": 1, "numb')
    # A directory that was made and nothing issued in it:
    raw(records, f"{paths.trial_record(1)}.0a1b.tmp", b"{")
    view = reopened(records)
    assert view.unfinished() == [0]
    assert view.next_number() == 1
    assert view.damaged() == []


KILLED = """
import sys, os, signal
from tests.search import factories
from search.store.records import Records
from trainables.store.storage import Storage
real = os.link
def link(source, target):
    if target.endswith("outcome.json") and sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
    if target.endswith("outcome.json"):
        os.kill(os.getpid(), signal.SIGKILL)
os.link = link
records = Records.open(Storage(sys.argv[1]))
records.write_outcome(factories.outcome(0))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("when", "kept"), [("before", False), ("after", True)])
def test_kill_around_the_rename_keeps_all_or_nothing(records: Records, when: str, kept: bool) -> None:
    records.issue(factories.trial(0))
    command = [sys.executable, "-c", KILLED, records.storage.location, when]
    assert subprocess.run(command, check=False, cwd=Path(__file__).parents[3]).returncode == -9
    view = reopened(records)
    assert view.outcome(0) == (factories.outcome(0) if kept else None)
    assert view.unfinished() == ([] if kept else [0])
    assert view.write_outcome(factories.outcome(0)) is not kept


HOSTILE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"[" * 200_000,
    b'{"a":' * 200_000,
    b"9" * 10_000,
    b"\xff\xfe{}",
    b"\0" * 512,
    b'{"schema": 1, "number": ' + b"9" * 400 + b"}",
]


@pytest.mark.parametrize("content", HOSTILE)
@pytest.mark.parametrize("path", [paths.outcome(1), paths.trial_record(1)])
def test_malicious_record_is_listed_and_the_rest_reads(records: Records, content: bytes, path: str) -> None:
    for number in range(3):
        records.issue(factories.trial(number))
        records.write_outcome(factories.outcome(number))
    raw(records, path, content)
    view = reopened(records)
    assert [trial.number for trial, _ in view.trials()] == [0, 2]
    assert [(damaged.number, damaged.path) for damaged in view.damaged()] == [(1, path)]
    assert view.unfinished() == []
    assert view.next_number() == 3


def altered(record: TrialRecord | Outcome, *path: str | int, to: object) -> bytes:
    data = json.loads(record.json_bytes())
    place = data
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = to
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("schema",), 2, "schema 2"),
        (("number",), 5, "record of trial 5"),
        (("number",), 10**400, "number: "),
        (("number",), "x", "number"),
        (("state",), "splendid", "state"),
        (("seconds",), -1, "seconds"),
        (("points",), [], "without a point"),
        (("points", 0, "robust_accuracy"), 1.7, "robust_accuracy"),
        (("points", 0, "robust_accuracy"), -0.1, "robust_accuracy"),
        (("points", 0, "robust_accuracy"), float("nan"), "finite"),
        (("points", 0, "clean_accuracy"), float("inf"), "finite"),
        (("points", 0, "robust_accuracy"), None, "robust_accuracy"),
        (("points", 0, "robust_accuracy"), "high", "robust_accuracy"),
        (("points", 0, "robust_correct"), factories.EXAMPLES + 1, "more examples"),
        (("points", 0, "nonzero"), factories.PRUNABLE + 1, "more weights"),
        (("points", 0, "epochs_trained"), 2**63, "epochs_trained: Input should be less than"),
        (("points", 0, "macs_dense"), -(2**63) - 1, "macs_dense: Input should be greater than"),
        (("points", 0, "stands_for"), {"sparsity": float("nan")}, "not finite"),
        (("points", 0, "stands_for"), {"a": [1, {"b": 10**50}]}, "too large"),
    ],
)
def test_impossible_outcome_is_listed_with_its_reason(
    records: Records, path: tuple[str | int, ...], value: object, reason: str
) -> None:
    records.issue(factories.trial(0))
    raw(records, paths.outcome(0), altered(factories.outcome(0), *path, to=value))
    (damaged,) = records.damaged()
    assert reason in damaged.reason
    assert records.outcome(0) is None
    assert records.trials() == []


def test_a_key_that_lost_a_character_is_listed(records: Records) -> None:
    trial = factories.trial(0)
    raw(records, paths.trial_record(0), altered(trial, "keys", 0, to=trial.keys[0][1:]))
    assert [(damaged.number, damaged.reason) for damaged in records.damaged()] == [(0, "a key is not a sha256 digest")]


def test_measurement_reported_twice_is_no_result(records: Records) -> None:
    records.issue(factories.trial(0))
    twice = factories.outcome(0, [factories.point(0), factories.point(0, sparsity=0.9)])
    raw(records, paths.outcome(0), twice.json_bytes())
    assert "twice" in records.damaged()[0].reason
    with pytest.raises(AssertionError, match="twice"):
        records.write_outcome(twice)


def test_outcome_without_trial_is_damage_and_takes_its_number(records: Records) -> None:
    raw(records, paths.outcome(0), factories.outcome(0).json_bytes())
    assert records.damaged() == [Damaged(0, paths.outcome(0), "trial.json is not there")]
    assert records.next_number() == 1


def test_damaged_outcome_set_aside_runs_again(records: Records) -> None:
    records.issue(factories.trial(0))
    raw(records, paths.outcome(0), b"{")
    kept = records.set_aside(records.damaged()[0])
    assert records.storage.read(kept) == b"{"
    assert records.damaged() == []
    assert records.unfinished() == [0]
    assert records.write_outcome(factories.outcome(0))


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_record_never_crashes_a_reader(tmp_path: Path, data: st.DataObject) -> None:
    directory = tmp_path / "mutated"
    if not directory.exists():
        factories.make_study(directory, 2, troubled=False)
    spec = factories.study_spec()
    records = Records(Storage(str(directory)), spec, factories.FINGERPRINT)
    path = data.draw(st.sampled_from([paths.outcome(0), paths.trial_record(0)]))
    original = records.storage.read(path)
    content = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 12)))
        content[start:end] = data.draw(st.binary(max_size=6) | st.sampled_from([b"0", b"9", b"-", b"null", b"[", b'"']))
    (directory / path).write_bytes(bytes(content))
    try:
        read = {trial.number for trial, _ in records.trials()} | {damaged.number for damaged in records.damaged()}
        assert read == {0, 1}
        assert records.next_number() == 2
    finally:
        (directory / path).write_bytes(original)


def test_listing_again_reads_no_finished_trial_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = factories.make_study(tmp_path / "study", 12)
    view = reopened(records)
    assert len(view.trials()) == 12
    read: list[str] = []
    real = Storage.read
    monkeypatch.setattr(Storage, "read", lambda self, path: read.append(path) or real(self, path))
    assert len(view.trials()) == 12
    assert read == [paths.outcome(11)], "only the unfinished trial is looked at"


def test_foreign_files_among_the_trials_are_no_trials(records: Records) -> None:
    for name in ("notes.txt", "-1/trial.json", "1e3/trial.json", "٣/trial.json", "99999999999999999999/trial.json"):
        raw(records, f"{paths.TRIALS}/{name}", b"{}")
    assert records.trials() == []
    assert records.next_number() == 0


def test_records_on_an_object_store_cost_a_request_each(object_server: ObjectServer) -> None:
    storage = object_server.storage("runs/study")
    records = Records.create(storage, factories.study_spec(), factories.FINGERPRINT)
    object_server.requests.clear()
    records.issue(factories.trial(0))
    assert records.write_outcome(factories.outcome(0))
    assert object_server.counted() == {"PUT": 2}
    assert not records.write_outcome(factories.outcome(0))
    records.issue(factories.trial(1))
    assert records.trials() == [(factories.trial(0), factories.outcome(0)), (factories.trial(1), None)]
    assert Records.open(storage).unfinished() == [1]
    object_server.requests.clear()
    assert records.unfinished() == [1]
    assert object_server.counted() == {"GET": 2}, "a listing, and a look for the outcome of the unfinished trial"


def test_many_records_on_an_object_store_are_read_together(
    object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.store.records.FETCHED_AT_ONCE", 3)
    storage = object_server.storage("runs/study")
    records = Records.create(storage, factories.study_spec(), factories.FINGERPRINT)
    for number in range(8):
        records.issue(factories.trial(number))
        records.write_outcome(factories.outcome(number))
    storage.write(paths.outcome(5), b"{")
    view = Records.open(storage)
    assert [trial.number for trial, _ in view.trials()] == [0, 1, 2, 3, 4, 6, 7]
    assert [damaged.number for damaged in view.damaged()] == [5]


def test_no_trial_is_issued_where_the_study_has_gone(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "study", trials=2, troubled=False)
    (tmp_path / "study").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="no longer holds a study"):
        records.issue(factories.trial(2))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("by", ["another study", "an empty directory", "a file", "nothing"])
def test_nothing_is_written_to_what_took_the_place_of_the_study(records: Records, tmp_path: Path, by: str) -> None:
    records.issue(factories.trial(0, records.spec))
    study = tmp_path / "study"
    study.rename(tmp_path / "moved")
    if by == "another study":
        factories.make_study(study, 2, factories.study_spec(seed=9))
    elif by == "an empty directory":
        study.mkdir()
    elif by == "a file":
        study.write_text("")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with pytest.raises(StorageError):
        records.issue(factories.trial(1, records.spec))
    with pytest.raises(StorageError):
        records.write_outcome(factories.outcome(0, [factories.point()]))
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_names_of_classes_and_notes_about_the_data_are_kept(tmp_path: Path) -> None:
    described = {"class_names": ("0", "no", "b\\u202eird", "\U0001f431 cat", "a: b"), "data_notes": ("1 file: #x",)}
    fingerprint = factories.FINGERPRINT.model_copy(update=described)
    Records.create(Storage(str(tmp_path / "with")), factories.study_spec(), fingerprint)
    found = Records.open(Storage(str(tmp_path / "with"))).fingerprint
    assert (found.class_names, found.data_notes) == (described["class_names"], described["data_notes"])
    Records.create(Storage(str(tmp_path / "without")), factories.study_spec(), factories.FINGERPRINT)
    assert "class_names" not in (tmp_path / "without" / paths.STUDY).read_text(), "as studies of before"
    assert Records.open(Storage(str(tmp_path / "without"))).fingerprint.class_names == ()
