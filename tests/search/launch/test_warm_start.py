from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.launch import warm_start
from search.launch.driver import Driver
from search.launch.prepare import create_or_update
from search.store.records import Records
from search.store.study_yaml import Fingerprint
from search.study.spec import StudySpec
from tests.search import factories, synthetic
from tests.search.command import run
from tests.search.synthetic import run_trials
from trainables.core.errors import SpecError, StorageError
from trainables.core.spec import plain
from trainables.store import paths
from trainables.store.storage import Storage

SPACE = synthetic.ladder_study("random").space


def ladder(name: str = "ladder", sampler: Any = "random", **changes: Any) -> StudySpec:
    data = synthetic.ladder_study(sampler).resolved() | {"name": name, **changes}
    return StudySpec.model_validate(data)


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    """A storage with a study `ladder` of three trials."""
    run_trials(Records.create(Storage(str(tmp_path / "ladder")), ladder(), factories.FINGERPRINT), 3)
    return Storage(str(tmp_path))


def measured(root: Storage, name: str = "ladder") -> dict[str, Any]:
    """All points of a study by key."""
    ends = [outcome for _, outcome in Records.open(root.child(name)).trials() if outcome]
    return {point.key: point for outcome in ends for point in outcome.points}


def begin(spec: StudySpec, root: Storage) -> tuple[Records, list[str]]:
    said: list[str] = []
    storage = root.child(spec.name)
    stored = Records.open(storage) if Records.exist(storage) else None
    return create_or_update(spec, storage, stored, factories.FOUND, said.append), said


def transferred(driver: Driver) -> list[Any]:
    return [row for row in driver._sampling.observations if row.origin == "transferred"]


def test_points_of_another_study_are_transferred_before_the_first_trial(root: Storage) -> None:
    records, said = begin(ladder("next", warm_start=["ladder"]), root)
    points = measured(root)
    assert said == [f"warm start: {len(points)} points of ladder"]
    observations = transferred(Driver(records))
    assert len(observations) == len(points)
    for trial, point in zip(observations, records.warm_start_points().points, strict=True):
        assert trial.study == "ladder"
        assert list(trial.values) == [point.measured["robust_accuracy"], point.measured["sparsity"]]
        assert trial.values[1] == pytest.approx(trial.params["recipe.sparsity"], abs=1e-4)
        assert trial.values[0] == pytest.approx(synthetic.robust(trial.params), abs=1e-4)


def test_only_points_that_the_space_could_have_produced_are_transferred(root: Storage) -> None:
    space = {path: plain(parameter) for path, parameter in SPACE.items()}
    narrow = space | {"recipe.sparsity": {"kind": "float", "low": 0.4, "high": 0.8}}
    expected = [point for point in measured(root).values() if 0.4 <= point.sparsity <= 0.8]
    records, _ = begin(ladder("narrow", warm_start=["ladder"], space=narrow), root)
    assert len(records.warm_start_points().points) == len(expected) > 0
    longer = {**plain(ladder().recipe), "epochs": 41}
    records, said = begin(ladder("longer", warm_start=["ladder"], recipe=longer), root)
    assert (records.warm_start_points().points, said) == ((), ["warm start: 0 points of ladder"])


@pytest.mark.slow
def test_later_changes_of_the_other_study_change_nothing(root: Storage) -> None:
    spec = ladder("next", "ehvi", warm_start=["ladder"], budget={"trials": 6})
    records, _ = begin(spec, root)
    run_trials(records, 2)
    run_trials(Records.open(root.child("ladder")), 2)
    again = Records.open(root.child("next"))
    assert again.warm_start_points() == records.warm_start_points()
    following = Driver(again).next()
    root.delete_directory("ladder")
    copy = Storage(f"{root.location}/copy")
    for name in (paths.STUDY, paths.WARM_START, *(f(n) for n in (0, 1) for f in (paths.trial_record, paths.outcome))):
        copy.write(name, root.child("next").read(name))
    other = Driver(Records.open(copy)).next()
    assert following is not None
    assert other is not None
    assert following.params == other.params


def test_transferred_points_are_not_on_the_front_and_cheap_to_measure_again(root: Storage) -> None:
    records, _ = begin(ladder("next", "ehvi", warm_start=["ladder"]), root)
    driver = Driver(records)
    assert driver.snapshot().front == 0
    first = driver.next()
    assert first is not None
    expected = driver._forecasts.of(first.params)
    networks = {tuple(sorted(point.params.items(), key=str)) for point in records.warm_start_points().points}
    # No epoch has to be trained, and the model knew enough not to begin with a Sobol sequence.
    assert expected.epochs[-1] == 0
    assert tuple(sorted(first.params.items(), key=str)) in networks


REFUSED = {
    "itself": ({"name": "ladder"}, "'ladder' is this study itself"),
    "absent": ({"warm_start": ["laddr"]}, r"warm_start\[0\]: there is no study 'laddr'.*did you mean 'ladder'"),
    "protocol": ({"protocol": {"eps": 0.2}}, r"cannot be compared .*\n  protocol.eps: 0.1 there, 0.2 here"),
    "objectives": ({"objectives": {"robust_accuracy": "maximise"}}, r"sparsity: 'maximise' there, None here"),
    "data": ({"data": {"kind": "digits", "validation": 100}}, r"data.validation: 360 there, 100 here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_studies_that_do_not_compare_are_refused(case: str, root: Storage) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(SpecError, match=message):
        warm_start.check(ladder(**{"name": "next", "warm_start": ["ladder"], **changes}), root)


def test_other_images_are_refused_once_their_fingerprint_is_known(root: Storage) -> None:
    spec = ladder("next", warm_start=["ladder"])
    warm_start.check(spec, root)
    with pytest.raises(SpecError, match="the data: fingerprint"):
        create_or_update(spec, root.child("next"), None, {**factories.FOUND, "fingerprint": "f" * 64}, print)
    assert not Records.exist(root.child("next"))


def test_a_launch_refuses_before_anything_starts(root: Storage, tmp_path: Path) -> None:
    file = tmp_path / "next.yaml"
    data = ladder("next", warm_start=["ladder"], protocol={"eps": 0.3}).resolved()
    file.write_text(json.dumps(data))
    result = run("launch", str(file), "--storage", root.location, "--dry-run")
    assert result.exit_code == 2
    assert "protocol.eps: 0.1 there, 0.3 here" in result.stderr


@pytest.mark.parametrize("harm", ["gone", "garbage"])
def test_a_study_without_its_transferred_points_does_not_resume(harm: str, root: Storage) -> None:
    begin(ladder("next", warm_start=["ladder"]), root)
    file = Path(root.location) / "next" / paths.WARM_START
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(StorageError, match=f"{paths.WARM_START} is "):
        Driver(Records.open(root.child("next")))


def test_points_are_not_transferred_to_a_study_again(root: Storage) -> None:
    spec = ladder("next", warm_start=["ladder"])
    first, _ = begin(spec, root)
    run_trials(Records.open(root.child("ladder")), 1)
    second, said = begin(spec, root)
    assert (second.warm_start_points(), said) == (first.warm_start_points(), [])
    other = Fingerprint(data_hash=factories.DATA_HASH, shape=(1, 8, 8), classes=10)
    with pytest.raises(StorageError, match="holds a study already"):
        Records.create(root.child("next"), spec, other)
    assert Records.open(root.child("next")).warm_start_points() == first.warm_start_points()


def test_transferred_points_may_be_dropped_as_well(root: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    records, _ = begin(ladder("next", "tpe", warm_start=["ladder"]), root)
    monkeypatch.setattr(type(records.spec.sampler), "most", 4)
    driver = run_trials(records, 3)
    assert len(transferred(driver)) < len(records.warm_start_points().points)
    again = Driver(Records.open(root.child("next")))
    assert len(transferred(again)) == len(transferred(driver))
    asked = [known._sampling.ask(3)[0] for known in (driver, again)]
    assert asked[0] == asked[1]
