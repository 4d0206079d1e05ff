from __future__ import annotations

import json
from pathlib import Path

import pytest

from search import objectives
from search.launch.driver import Driver
from search.results.table import front_stages
from search.store.gc import StageCollector
from search.store.records import Records
from search.store.repair import repair
from tests.search import factories
from trainables.store import paths
from trainables.store.storage import Storage


def store(records: Records, key: str, size: int, epochs: int = 0) -> None:
    """Write a stage of `size` bytes, with the files that garbage collection reads."""
    fields = {"epochs": epochs, "seconds": 1.0, "study": "synthetic", "trial": 0, "files": {}}
    records.storage.write(f"{paths.stage(key)}/{paths.STATE}", bytes(size))
    records.storage.write(f"{paths.stage(key)}/{paths.STAGE}", json.dumps(fields).encode())


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Six trials; each point is its own stage; the last trial is unfinished."""
    records = factories.make_study(tmp_path / "study", trials=6, troubled=True, keyed=False)
    for trial, outcome in records.trials():
        store(records, trial.keys[1], 10_000, epochs=10)
        for point in outcome.points if outcome else ():
            store(records, point.stage, 1_000, epochs=5)
        for key in trial.keys if outcome is None else ():
            store(records, key, 500)
    return records


def collector_of(records: Records) -> StageCollector:
    return StageCollector(records, lambda: front_stages(records.spec, records.trials()))


def left(records: Records) -> set[str]:
    return set(records.storage.names(paths.STAGES))


def needed(records: Records) -> set[str]:
    """The front by brute force, and what the unfinished trial needs."""
    complete = [o for _, o in records.trials() if o and o.state == "complete"]
    points = [p for o in complete for p in o.points if objectives.valid(p) and objectives.feasible(p, records.spec)]
    values = {p.stage: objectives.values(p, records.spec) for p in points}
    beaten = {
        stage
        for stage, mine in values.items()
        for other in values.values()
        if other != mine and all(b >= a for a, b in zip(mine, other, strict=True))
    }
    live = {key for trial, outcome in records.trials() if outcome is None for key in trial.keys}
    return (values.keys() - beaten) | live


def test_a_sweep_leaves_the_front_and_unfinished_trials(records: Records) -> None:
    before = left(records)
    keep = needed(records)
    assert keep < before
    promised = collector_of(records).sweep(dry=True)
    assert left(records) == before
    swept = collector_of(records).sweep()
    assert left(records) == keep == before - set(swept.dropped)
    assert swept == promised
    assert swept.kept == len(keep)
    assert swept.size == records.storage.size(paths.STAGES)
    assert collector_of(records).sweep().dropped == ()


def test_a_limit_drops_the_least_useful_first_and_no_more_than_it_must(records: Records) -> None:
    collector_of(records).sweep()
    keys = [trial.keys for trial, outcome in records.trials() if outcome is not None]
    shared = keys[0][0]  # The initialisation, which all trials went through.
    once = keys[0][-2]
    assert sum(shared in chain for chain in keys) > 1
    records.storage.delete_directory(paths.stage(shared))
    base = records.storage.size(paths.STAGES)
    unknown = "0" * 64
    store(records, unknown, 4_000, epochs=10)
    store(records, once, 4_000, epochs=10)
    collector = collector_of(records)
    assert collector.sweep(base + 9_000).dropped == ()
    assert collector.sweep(base + 8_000).dropped == (unknown,)
    assert collector.sweep(base + 4_500).dropped == ()
    store(records, once.replace(once[0], "f"), 2_000, epochs=1)
    assert collector.sweep(base + 4_500).dropped == (once.replace(once[0], "f"),)
    assert collector.sweep(base + 100).dropped == (once,)


def test_measured_points_are_no_stages(records: Records) -> None:
    records.storage.write(f"{paths.stage('f' * 64)}/{paths.POINT}", b"{}")
    collector_of(records).sweep()
    assert "f" * 64 in left(records)


def test_a_driver_keeps_to_the_stage_storage_of_its_study(tmp_path: Path) -> None:
    space = {"recipe.sparsity": {"kind": "float", "low": 0.5, "high": 0.9}}
    spec = factories.study_spec(
        space=space, constraints={}, stage_storage=5_000, budget={"trials": 3}, sampler="random"
    )
    records = Records.create(Storage(str(tmp_path)), spec, factories.FINGERPRINT)
    driver = Driver(records)
    for robust in (0.5, 0.6, 0.7):
        record = driver.next()
        assert record is not None
        store(records, record.keys[1], 4_000, epochs=10)
        point = factories.point(robust_accuracy=robust, sparsity=0.5 + robust / 10)
        store(records, point.stage, 2_000)
        Records.open(records.storage).write_outcome(factories.outcome(record.number, [point]))
        driver.on_end(record.number, None)
        assert records.storage.exists(paths.stage(point.stage))
        assert records.storage.size(paths.STAGES) <= 5_000


@pytest.mark.parametrize("planted", ["stages", "a stage", "files of a stage"])
def test_neither_a_sweep_nor_a_repair_follows_a_link_out_of_the_study(
    records: Records, tmp_path: Path, planted: str
) -> None:
    study, outside = tmp_path / "study", tmp_path / "outside"
    dropped = collector_of(records).sweep(dry=True).dropped[0]
    if planted == "stages":
        (study / "stages").rename(outside)
        (study / "stages").symlink_to(outside)
        key = dropped
    else:
        key = "f" * 64
        (study / paths.stage(dropped)).rename(outside)
        if planted == "a stage":
            (study / paths.stage(key)).symlink_to(outside)
        else:
            (study / paths.stage(key) / "more").mkdir(parents=True)
            (study / paths.stage(key) / "stage.json").symlink_to(outside / "stage.json")
            (study / paths.stage(key) / "more/all").symlink_to(outside)
    (outside / "note.0123.tmp").write_text("not ours")
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    swept = collector_of(records).sweep()
    assert (key in swept.dropped) == (planted == "files of a stage")
    assert (key in swept.links) == (planted != "files of a stage")
    number = len(swept.links)
    said = {0: "", 1: "; 1 is reached through links, which are not followed"}
    expected = said.get(number, f"; {number} are reached through links, which are not followed")
    assert swept.says("dropped").partition(" stay, ")[2].partition("B")[2] == expected
    repair(records.storage)
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before
