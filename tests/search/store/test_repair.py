"""Damage of every kind: it is found and named, and repair loses nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.store import check, driver_lock
from search.store.consistency import unproven
from search.store.records import Records
from search.store.repair import rebuild, repair
from tests.search import factories
from tests.search.command import run
from trainables.core.errors import StorageError
from trainables.core.spec import plain
from trainables.method.phases import Measure
from trainables.recipes.trial import keyed_phases
from trainables.store import paths
from trainables.store.lease import LeaseHeld
from trainables.store.records import Point
from trainables.store.storage import Storage

TRIALS = 4
UNFINISHED = 3


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("template") / "synthetic"
    factories.make_stored_study(directory, TRIALS)
    return directory


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "runs" / "synthetic"))


def contents(study: Path) -> dict[str, bytes]:
    return {str(path.relative_to(study)): path.read_bytes() for path in sorted(study.rglob("*")) if path.is_file()}


def storage(study: Path) -> Storage:
    return Storage(str(study))


def kinds(study: Path) -> list[tuple[str, str]]:
    return [(fault.kind, fault.path) for fault in check.faults(storage(study))]


def restored(study: Path) -> Records:
    """Repair, check that all is well and nothing recorded is gone, and open."""
    before = {name: content for name, content in contents(study).items() if name.startswith(paths.TRIALS)}
    found = repair(storage(study))
    assert found.whole, found.left
    assert [kind for kind, _ in kinds(study) if kind != "gap"] == []
    after = contents(study)
    for name, content in before.items():
        kept = [other for path, other in after.items() if path == name or path.startswith(f"{name}{paths.DAMAGED}")]
        assert content in kept or name.endswith(paths.TEMPORARY), f"{name} is lost"
    return Records.open(storage(study))


def test_an_undamaged_study_is_unchanged(study: Path) -> None:
    before = contents(study)
    assert kinds(study) == []
    assert repair(storage(study)).actions == ()
    assert contents(study) == before
    result = run("doctor", "synthetic", ROBUSTSEARCH_STORAGE=str(study.parent))
    assert (result.exit_code, result.stdout.split()[-1]) == (0, "intact")


CONTENT = st.one_of(
    st.just(b""),
    st.just(b"\0" * 700),
    st.sampled_from([b"null\n", b"[]", b"{}", b'{"schema": 1}', b"\xff\xfe", b"[" * 100_000]),
    st.binary(max_size=60),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.slow
def test_torn_bytes_anywhere_lose_nothing_but_what_was_torn(
    template: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    study = Path(shutil.copytree(template, tmp_path_factory.mktemp("torn") / "synthetic"))
    whole = contents(study)
    original = Records.open(storage(study)).trials()
    names = data.draw(st.lists(st.sampled_from(sorted(whole)), min_size=1, max_size=3, unique=True))
    if {paths.STUDY, paths.STUDY_COPY} <= set(names):
        names.remove(paths.STUDY_COPY)
    for name in names:
        cut = data.draw(st.integers(0, len(whole[name]) - 1))
        torn = whole[name][:cut] + data.draw(st.one_of(st.just(b""), CONTENT, st.just(whole[name][cut + 1 :])))
        (study / name).write_bytes(torn)
    records = restored(study)
    assert records.spec == factories.study_spec()
    found = {trial.number: (trial, outcome) for trial, outcome in records.trials()}
    touched = {int(name.split("/")[1]) for name in names if name.startswith(paths.TRIALS)}
    for trial, outcome in original:
        if trial.number not in touched:
            assert found[trial.number] == (trial, outcome)
        elif trial.number in found and (study / paths.trial_record(trial.number)).read_bytes() != whole.get(
            paths.trial_record(trial.number)
        ):
            assert found[trial.number][0].keys == trial.keys, "a rebuilt trial is the one that was issued"
    shutil.rmtree(study.parent)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, UNFINISHED])
def test_a_trial_cut_at_any_byte_is_rebuilt_as_it_was_or_not_at_all(template: Path, number: int) -> None:
    records = Records.open(storage(template))
    trial, outcome = records.trials()[number]
    content = trial.json_bytes()
    params_end = content.index(b' "spec"') - len(",\n")
    for cut in range(len(content) - 2):
        again = rebuild(records, number, content[:cut], outcome)
        if outcome is None and cut < params_end:
            assert again is None, "nothing says what the parameters were"
            continue
        assert again is not None
        assert (again.params, again.spec, again.keys) == (trial.params, trial.spec, trial.keys)
        assert again.sampler in ({}, trial.sampler)
    last = rebuild(records, number, content[: content.index(b'"issued"')], outcome)
    assert last is not None
    assert last.sampler == trial.sampler


@pytest.mark.slow
def test_garbage_in_a_trial_under_way_is_not_believed(template: Path) -> None:
    records = Records.open(storage(template))
    content = records.trials()[UNFINISHED][0].json_bytes()
    for at in range(content.index(b' "spec"'), content.index(b' "keys"')):
        torn = content[:at] + b"\0" + content[at + 1 : content.index(b' "sampler"')]
        assert rebuild(records, UNFINISHED, torn, None) is None
    value = str(records.trials()[UNFINISHED][0].params["recipe.sparsity"]).encode()
    changed = content.replace(value, b"0.5", 1)
    assert rebuild(records, UNFINISHED, changed[: changed.index(b' "sampler"')], None) is None, (
        "its phases say otherwise"
    )


@pytest.mark.parametrize("cut", ["none", "params", "sampler"])
def test_a_torn_trial_under_way_resumes_or_is_issued_anew(study: Path, cut: str) -> None:
    path = study / paths.trial_record(UNFINISHED)
    content = path.read_bytes()
    trial = Records.open(storage(study)).trials()[UNFINISHED][0]
    path.write_bytes(content[: 0 if cut == "none" else content.index(f'"{cut}"'.encode()) + 200])
    records = restored(study)
    saved = study / paths.stage(trial.keys[1]) / f"{paths.PROGRESS}000002.safetensors"
    if cut == "none":
        assert (records.next_number(), saved.exists()) == (UNFINISHED, False)
    else:
        assert (records.unfinished(), saved.exists()) == ([UNFINISHED], True)
        assert records.trials()[UNFINISHED][0].params == trial.params


def test_a_torn_outcome_is_set_aside_and_its_trial_runs_again(study: Path) -> None:
    (study / paths.outcome(1)).write_bytes(b'{"schema": 1, "num')
    assert kinds(study) == [("outcome", paths.outcome(1))]
    records = restored(study)
    assert records.unfinished() == [1, UNFINISHED]
    assert (study / f"{paths.outcome(1)}.damaged-0").read_bytes() == b'{"schema": 1, "num'


def test_a_lost_trial_is_rebuilt_from_its_outcome(study: Path) -> None:
    issued = Records.open(storage(study)).trials()[2][0]
    (study / paths.trial_record(2)).unlink()
    assert kinds(study) == [("outcome", paths.outcome(2))]
    again, outcome = restored(study).trials()[2]
    assert outcome is not None
    assert (again.params, again.spec, again.keys) == (issued.params, issued.spec, issued.keys)


def test_parameters_that_the_measured_networks_contradict_are_not_believed(study: Path) -> None:
    path = study / paths.outcome(2)
    outcome = json.loads(path.read_bytes())
    outcome["params"]["recipe.sparsity"] = 0.5
    path.write_text(json.dumps(outcome))
    (study / paths.trial_record(2)).write_bytes(b"")
    records = restored(study)
    assert [trial.number for trial, _ in records.trials()] == [0, 1, UNFINISHED]
    assert records.next_number() == 2
    assert kinds(study) == [("gap", paths.trial(2))]


def test_records_of_another_version_are_left_alone(study: Path) -> None:
    newer = (study / paths.outcome(1)).read_bytes().replace(b'"schema": 1', b'"schema": 2', 1)
    (study / paths.outcome(1)).write_bytes(newer)
    assert kinds(study) == [("foreign", paths.outcome(1))]
    found = repair(storage(study))
    assert (found.whole, found.actions) == (False, ())
    assert (study / paths.outcome(1)).read_bytes() == newer
    result = run("repair", "synthetic", ROBUSTSEARCH_STORAGE=str(study.parent))
    assert result.exit_code == 5
    assert "schema 2 is unknown to this version" in result.stderr


@pytest.mark.parametrize("how", ["torn", "lost"])
def test_a_study_file_is_restored_from_its_copy(study: Path, how: str) -> None:
    content = (study / paths.STUDY).read_bytes()
    if how == "torn":
        (study / paths.STUDY).write_bytes(content[:300])
    else:
        (study / paths.STUDY).unlink()
    result = run("doctor", "synthetic", ROBUSTSEARCH_STORAGE=str(study.parent))
    assert result.exit_code == 5
    assert "robustsearch repair synthetic" in result.stdout
    assert restored(study).spec == factories.study_spec()
    assert (study / paths.STUDY).read_bytes() == content
    assert (study / f"{paths.STUDY}.damaged-0").exists() == (how == "torn")


def test_a_study_that_lost_its_file_is_not_begun_anew(study: Path) -> None:
    (study / paths.STUDY).unlink()
    with pytest.raises(StorageError, match="robustsearch repair synthetic"):
        Records.create(storage(study), factories.study_spec(seed=1), factories.FINGERPRINT)


def test_two_torn_study_files_cannot_be_repaired_and_nothing_is_touched(study: Path) -> None:
    for name in (paths.STUDY, paths.STUDY_COPY):
        (study / name).write_bytes(b"name: [")
    before = contents(study)
    result = run("repair", "synthetic", "--json", ROBUSTSEARCH_STORAGE=str(study.parent))
    assert result.exit_code == 5
    assert "cannot be repaired" in json.loads(result.stdout)["error"]["message"]
    assert contents(study) == before


@pytest.mark.parametrize("content", [None, b"{"])
def test_lost_transferred_points_are_named(tmp_path: Path, content: bytes | None) -> None:
    spec = factories.study_spec(warm_start=["other"])
    study = tmp_path / "synthetic"
    Records.create(storage(study), spec, factories.FINGERPRINT)
    assert kinds(study) == []
    (study / paths.WARM_START).unlink()
    if content is not None:
        (study / paths.WARM_START).write_bytes(content)
    assert kinds(study) == [("study", paths.WARM_START)]
    assert not repair(storage(study)).whole


def a_stage(study: Path, trial: int, name: str = paths.STATE) -> Path:
    return study / paths.stage(Records.open(storage(study)).trials()[trial][0].keys[-2]) / name


@pytest.mark.parametrize("name", [paths.STATE, paths.STAGE])
@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 400, None])
def test_a_damaged_stage_is_dropped_and_no_other(study: Path, name: str, content: bytes | None) -> None:
    path = a_stage(study, 0, name)
    if content is None and name == paths.STAGE:
        content = b"[1]"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert kinds(study) == [("stage", f"{paths.STAGES}/{path.parent.name}")]
    restored(study)
    assert not path.parent.exists()
    assert a_stage(study, 1).exists()


def test_a_measurement_that_is_torn_or_anothers_is_dropped(study: Path) -> None:
    keys = [trial.keys[-1] for trial, _ in Records.open(storage(study)).trials()]
    other = Point.model_validate_json((study / paths.stage(keys[1]) / paths.POINT).read_bytes())
    (study / paths.stage(keys[0]) / paths.POINT).write_bytes(other.json_bytes())
    (study / paths.stage(keys[2]) / paths.POINT).write_bytes(b"{}")
    assert {path for _, path in kinds(study)} == {paths.stage(keys[0]), paths.stage(keys[2])}
    restored(study)
    assert (study / paths.stage(keys[1]) / paths.POINT).exists()


@pytest.fixture
def littered(study: Path) -> list[str]:
    """What killed processes leave: unrenamed files, a probe, a permit, and stages that no process resumes."""
    hexes = "0123456789abcdef" * 2
    litter = [
        f"{paths.STUDY}.{hexes}.tmp",
        f"{paths.outcome(0)}.{hexes}.tmp",
        f"{paths.trial_record(9)}.{hexes}.tmp",
        f"{paths.PROBE}{hexes}",
        f"{paths.DRIVER}.{hexes}.taken",
        f"{paths.stage('d' * 64)}/{paths.PROGRESS}000002.safetensors",
        f"{paths.stage('e' * 64)}/{paths.STATE}",
        f"{paths.EXPORTS}/.{hexes}.tmp",
        paths.LIVE,
    ]
    for name in litter:
        (study / name).parent.mkdir(parents=True, exist_ok=True)
        (study / name).write_bytes(b"")
    return litter


def test_what_killed_processes_left_is_named_harmless_and_removed(study: Path, littered: list[str]) -> None:
    whole = {name: content for name, content in contents(study).items() if name not in littered}
    with driver_lock.acquire(storage(study)):
        dead = json.loads((study / paths.DRIVER).read_bytes()) | {"process_started": -1.0}
    (study / paths.DRIVER).write_text(json.dumps(dead))
    result = run("doctor", "synthetic", ROBUSTSEARCH_STORAGE=str(study.parent))
    assert result.exit_code == 0, result.stdout
    listed = " ".join(result.stdout.split())
    for name in littered:
        assert name in listed or str(Path(name).parent) in listed
    assert "which no longer runs" in listed
    result = run("repair", "synthetic", ROBUSTSEARCH_STORAGE=str(study.parent))
    assert result.exit_code == 0, result.stderr
    assert "took over" in result.stderr
    assert contents(study) == whole, "and the progress of the unfinished trial stays"


def test_while_a_driver_is_at_work_repair_refuses_and_nothing_is_a_leftover(study: Path, littered: list[str]) -> None:
    with driver_lock.acquire(storage(study)):
        before = contents(study)
        found = [fault.path for fault in check.faults(storage(study))]
        assert [path for path in found if not path.endswith(".safetensors")] == []
        with pytest.raises(LeaseHeld, match="is driven by process"):
            repair(storage(study))
        result = run("repair", "synthetic", ROBUSTSEARCH_STORAGE=str(study.parent))
        assert result.exit_code == 5
        assert {k: v for k, v in contents(study).items() if k != paths.DRIVER} == {
            k: v for k, v in before.items() if k != paths.DRIVER
        }


def test_a_saved_epoch_that_is_torn_is_dropped_and_the_earlier_one_stays(study: Path) -> None:
    folder = paths.stage(Records.open(storage(study)).trials()[UNFINISHED][0].keys[1])
    (study / folder / f"{paths.PROGRESS}000003.safetensors").write_bytes(b"torn")
    assert kinds(study) == [("leftover", f"{folder}/{paths.PROGRESS}000003.safetensors")]
    restored(study)
    assert storage(study).names(folder) == [f"{paths.PROGRESS}000002.safetensors"]


def test_a_gap_is_named_and_the_next_launch_fills_it(study: Path) -> None:
    shutil.rmtree(study / paths.trial(1))
    assert ("gap", paths.trial(1)) in kinds(study)
    assert Records.open(storage(study)).next_number() == 1


def test_repairing_says_what_it_did(study: Path) -> None:
    (study / paths.outcome(0)).write_bytes(b"")
    result = run("repair", "synthetic", "--json", ROBUSTSEARCH_STORAGE=str(study.parent))
    (action,) = json.loads(result.stdout)["actions"]
    assert (action["what"], action["path"]) == ("set aside", paths.outcome(0))
    assert "trial 0 runs again" in action["message"]
    assert run("repair", "nothing", ROBUSTSEARCH_STORAGE=str(study.parent)).exit_code == 2
    assert run("doctor", "nothing", ROBUSTSEARCH_STORAGE=str(study.parent)).exit_code == 2
    assert run("doctor", "synthetic", "--cluster", "x.yaml").exit_code == 2


def test_a_lost_replicate_is_rebuilt_with_the_seed_that_its_networks_prove(tmp_path: Path) -> None:
    spec = factories.study_spec(seeds=[3, 8], name="synthetic")
    records = Records.create(Storage(str(tmp_path)), spec, factories.FINGERPRINT)
    for number, (configuration, seed) in enumerate(((0, 3), (0, 8), (1, 3), (1, 8))):
        params = factories.params(configuration)
        described = spec.trial(params, seed)
        chain = keyed_phases(described, factories.DATA_HASH)
        keys = tuple(step.key for step in chain)
        issued = factories.trial(number, spec, configuration=configuration, seed=seed, params=params)
        issued = issued.model_copy(update={"spec": plain(described), "keys": keys})
        records.issue(issued)
        assert unproven(spec, factories.DATA_HASH, issued, None) is None
        measured = [step for step in chain if isinstance(step.phase, Measure)]
        points = [factories.point(at, key=step.key, stage=step.parent) for at, step in enumerate(measured)]
        records.write_outcome(factories.outcome(number, points, params=params))
    (tmp_path / paths.trial_record(3)).unlink()
    repair(storage(tmp_path))
    rebuilt = {trial.number: trial for trial, _ in Records.open(storage(tmp_path)).trials()}[3]
    assert (rebuilt.seed, rebuilt.configuration, rebuilt.spec["seed"]) == (8, 1, 8)
