"""A whole trial on the digits: what it computes, what it finds stored, and how it resumes after a kill."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.factories import CPU, FAST, points, run, run_in_study, trial
from trainables.data import tensors
from trainables.method.partial import PartialSchedule
from trainables.method.phases import Measure, Phase, Train
from trainables.method.screening import Screen
from trainables.recipes import RECIPES
from trainables.recipes.trial import TrialSpec, keyed_phases
from trainables.store.records import PartialMeasurement, Point
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Storage
from trainables.worker.progress import Progress
from trainables.worker.run import COMPUTES, Run


def final_state(spec: TrialSpec, place: Path) -> State:
    fingerprint = tensors.load(spec.data, CPU).fingerprint
    last = [step for step in keyed_phases(spec, fingerprint) if not isinstance(step.phase, Measure)][-1]
    state = Stages(Storage(str(place))).load(last.key)
    assert state is not None
    return state


def test_imp_measures_every_round_at_its_counted_sparsity(tmp_path: Path) -> None:
    found = points(run(trial(), tmp_path).progress())
    assert [point.measure for point in found] == [0, 1, 2]
    assert [point.sparsity for point in found] == pytest.approx([0, 0.5, 0.75], abs=1e-4)
    assert [point.epochs_trained for point in found] == [3, 5, 7]
    assert [point.stands_for for point in found] == [{"sparsity": s} for s in (0.0, 0.5, 0.75)]
    for point in found:
        assert point.nonzero == round((1 - point.sparsity) * point.prunable)
        assert point.robust_accuracy == point.robust_correct / point.examples <= point.clean_accuracy
        assert (point.attack, point.norm, point.eps, point.split, point.tier) == (
            "PGD-3",
            "linf",
            0.1,
            "validation",
            "search",
        )


@pytest.mark.slow
def test_networks_within_trainings_are_points_and_change_nothing_else(tmp_path: Path) -> None:
    plain = points(run(trial(), tmp_path / "plain").progress())
    within = trial().model_copy(update={"measure_at": (1, 2)})
    found = points(run(within, tmp_path).progress())
    assert [point.epoch for point in found] == [1, 2, None, 2, None, 2, None], "later trainings begin at epoch 1"
    assert [point.epochs_trained for point in found] == [1, 2, 3, 4, 5, 6, 7]
    ends = [point for point in found if point.epoch is None]
    assert [(p.key, p.weights_sha256) for p in ends] == [(p.key, p.weights_sha256) for p in plain]
    assert len({point.key for point in found}) == len({point.weights_sha256 for point in found}) == 7
    stages = Stages(Storage(str(tmp_path)))
    for point in found:
        state = stages.load(point.stage)
        assert state is not None
        assert state.weights_sha256() == point.weights_sha256
    shorter = trial().model_copy(update={"recipe": trial().recipe.model_copy(update={"epochs": 2})})
    assert {p.key for p in points(run(shorter, tmp_path / "short").progress())}.isdisjoint({p.key for p in found})


@pytest.mark.slow
def test_points_within_a_training_are_shared_and_survive_a_restart(tmp_path: Path) -> None:
    within = trial().model_copy(update={"measure_at": (2,)})
    first = points(run(within, tmp_path).progress())
    again = list(run(within, tmp_path).progress())
    assert not [report for report in again if report.epoch is not None]
    assert points(iter(again)) == first
    other = points(run(within, tmp_path, number=1).progress())
    assert [(p.epochs_trained, p.epochs_shared) for p in other][:2] == [(0, 2), (0, 3)]
    more = trial().model_copy(update={"measure_at": (1, 2)})
    found = list(run(more, tmp_path, number=2).progress())
    assert points(iter(found))[0].epoch == 1
    assert points(iter(found))[1].key == first[0].key


def test_the_measured_weights_are_the_stored_ones(tmp_path: Path) -> None:
    last = points(run(trial(), tmp_path).progress())[-1]
    state = Stages(Storage(str(tmp_path))).load(last.stage)
    assert state is not None
    assert state.nonzero() == last.nonzero
    assert state.weights_sha256() == last.weights_sha256


def test_what_is_stored_is_not_computed_again(tmp_path: Path) -> None:
    first = points(run(trial(), tmp_path).progress())
    again = list(run(trial(), tmp_path).progress())
    assert not [report for report in again if report.epoch is not None]
    assert points(iter(again)) == first


def test_a_second_trial_shares_the_prefix_and_says_so(tmp_path: Path) -> None:
    first = points(run(trial(), tmp_path).progress())
    progress = list(run(trial(sparsity=0.875), tmp_path, number=1).progress())
    second = points(iter(progress))
    assert len([report for report in progress if report.epoch is not None]) == 2
    assert [(p.epochs_trained, p.epochs_shared) for p in second] == [(0, 3), (0, 5), (0, 7), (2, 7)]
    assert [p.weights_sha256 for p in second[:3]] == [p.weights_sha256 for p in first]


@pytest.mark.slow
@pytest.mark.parametrize("rewind", ["init", "random", "dense_trained", "none"])
def test_rewinding_gives_the_survivors_the_weights_it_names(tmp_path: Path, rewind: str) -> None:
    spec = trial(sparsity=0.5, rewind=rewind)
    list(run(spec, tmp_path).progress())
    chain = {step.phase.kind: step for step in reversed(keyed_phases(spec, tensors.load(spec.data, CPU).fingerprint))}
    stages = Stages(Storage(str(tmp_path)))
    start, dense, pruned = (stages.load(chain[kind].key) for kind in ("init", "train", "prune"))
    assert start is not None
    assert dense is not None
    assert pruned is not None
    if rewind == "none":
        assert "rewind" not in chain
        return
    rewound = stages.load(chain["rewind"].key)
    assert rewound is not None
    for name, mask in pruned.masks.items():
        assert torch.equal(rewound.masks[name], mask)
        assert not rewound.params[name][~mask].any()
        expected = {"init": start, "dense_trained": dense}.get(rewind)
        if expected is not None:
            assert torch.equal(rewound.params[name][mask], expected.params[name][mask])
        else:
            assert not torch.equal(rewound.params[name][mask], start.params[name][mask])


@pytest.mark.slow
def test_rewinding_to_an_epoch_takes_the_weights_after_it(tmp_path: Path) -> None:
    list(run(trial(sparsity=0.5, rewind=2), tmp_path / "long").progress())
    spec = trial(sparsity=0.5, rewind=2)
    chain = keyed_phases(spec, tensors.load(spec.data, CPU).fingerprint)
    stages = Stages(Storage(str(tmp_path / "long")))
    training = next(step for step in chain if isinstance(step.phase, Train))
    rewound = stages.load(next(step for step in chain if step.phase.kind == "rewind").key)
    snapshot = stages.load(training.key, 2)
    assert rewound is not None
    assert snapshot is not None
    for name, mask in rewound.masks.items():
        assert torch.equal(rewound.params[name], torch.where(mask, snapshot.params[name], 0.0))
        assert torch.equal(
            rewound.params[name.replace("weight", "bias")], snapshot.params[name.replace("weight", "bias")]
        )


@pytest.mark.slow
def test_a_stage_without_the_snapshot_that_is_needed_is_trained_again(tmp_path: Path) -> None:
    list(run(trial(sparsity=0.5, rewind=1), tmp_path).progress())
    progress = list(run(trial(sparsity=0.5, rewind=2), tmp_path, number=1).progress())
    assert len([r for r in progress if r.epoch is not None]) == 3 + 1


@pytest.mark.parametrize("stop_after", [1, 2, 4, 6])
@pytest.mark.slow
def test_an_interrupted_trial_resumes_to_the_same_bits(tmp_path: Path, stop_after: int) -> None:
    spec = trial(train={**FAST, "ema": 0.9, "regularisers": {"l1": 1e-5}}).model_copy(update={"snapshots": (1, 2)})
    whole = points(run(spec, tmp_path / "whole").progress())
    cut = run(spec, tmp_path / "cut", checkpoint_seconds=0).progress()
    for _ in range(stop_after):
        next(report for report in cut if report.epoch is not None)
    cut.close()  # type: ignore[attr-defined]
    rest = list(run(spec, tmp_path / "cut", checkpoint_seconds=0).progress())
    assert len([r for r in rest if r.epoch is not None]) <= 7 - stop_after + 1
    assert [p.weights_sha256 for p in points(iter(rest))] == [p.weights_sha256 for p in whole]
    assert [p.verdicts for p in points(iter(rest))] == [p.verdicts for p in whole]
    assert points(iter(rest))[-1].epochs_trained == whole[-1].epochs_trained


def test_an_interrupted_training_keeps_the_curve_of_all_its_epochs(tmp_path: Path) -> None:
    spec = trial(sparsity=0.0, epochs=4, train={**FAST, "select": 40, "validate_on": 30})
    reports = [report.epoch for report in run(spec, tmp_path / "whole").progress() if report.epoch is not None]
    cut = run(spec, tmp_path / "cut", checkpoint_seconds=0).progress()
    for _ in range(2):
        next(report for report in cut if report.epoch is not None)
    cut.close()
    rest = [report for report in run(spec, tmp_path / "cut").progress() if report.epoch is not None]
    assert len(rest) == 2
    key = next(s.key for s in keyed_phases(spec, tensors.load(spec.data, CPU).fingerprint) if s.phase.kind == "train")
    whole, resumed = (Stages(Storage(str(tmp_path / place))).curve(key) for place in ("whole", "cut"))
    assert whole is not None
    assert whole == resumed
    assert (whole.phase, whole.length, whole.images, whole.examples) == (
        "train",
        4,
        len(_training_images(spec)) - 40,
        40,
    )
    assert [(epoch.epoch, epoch.loss, epoch.accuracy) for epoch in whole.epochs] == [
        (report.epoch, report.loss, report.accuracy) for report in reports
    ]
    for epoch in whole.epochs:
        assert epoch.validation_loss is not None
        assert epoch.robust_accuracy is not None
        assert epoch.clean_accuracy is not None
        assert epoch.robust_accuracy <= epoch.clean_accuracy
        assert (epoch.robust_accuracy * 40).is_integer()


def _training_images(spec: TrialSpec) -> torch.Tensor:
    return tensors.load(spec.data, CPU).train.y


def test_a_stage_that_is_taken_over_brings_its_curve(tmp_path: Path) -> None:
    list(run_in_study(tmp_path, "one", trial(sparsity=0.0)).progress())
    list(run_in_study(tmp_path, "two", trial(sparsity=0.0)).progress())
    one, two = (
        {path.parent.name: path.read_bytes() for path in tmp_path.glob(f"{s}/stages/*/curve.json")}
        for s in ("one", "two")
    )
    assert one == two
    assert len(one) == 1


def _epochs(progress: list[Progress]) -> int:
    return len([report for report in progress if report.epoch is not None])


@pytest.mark.slow
def test_stages_that_were_dropped_are_needed_by_nobody_who_starts_after_them(tmp_path: Path) -> None:
    spec = trial(rewind="none")
    first = points(run(spec, tmp_path).progress())
    chain = [
        s for s in keyed_phases(spec, tensors.load(spec.data, CPU).fingerprint) if not isinstance(s.phase, Measure)
    ]
    stages = Stages(Storage(str(tmp_path)))
    for step in chain[:-1]:
        stages.drop(step.key)
    progress = list(run(trial(rewind="none", sparsity=0.875), tmp_path, number=1).progress())
    assert _epochs(progress) == 3
    second = points(iter(progress))
    assert [p.weights_sha256 for p in second[:3]] == [p.weights_sha256 for p in first]
    assert (second[-1].epochs_trained, second[-1].epochs_shared) == (3, 9)


@pytest.mark.slow
def test_a_study_takes_over_what_another_in_its_storage_has_trained(tmp_path: Path) -> None:
    (tmp_path / "front.csv").write_text("a table that a user exported beside the studies")
    first = points(run_in_study(tmp_path, "one", trial()).progress())
    progress = list(run_in_study(tmp_path, "two", trial(sparsity=0.875)).progress())
    assert _epochs(progress) == 2
    second = points(iter(progress))
    assert [p.weights_sha256 for p in second[:3]] == [p.weights_sha256 for p in first]
    assert second[-1].epochs_shared == 7
    Storage(str(tmp_path)).delete_directory("one")
    assert _epochs(list(run_in_study(tmp_path, "two", trial(sparsity=0.875), 1).progress())) == 0


def test_another_versions_and_damaged_stages_are_not_taken_over(tmp_path: Path) -> None:
    list(run_in_study(tmp_path, "one", trial(sparsity=0.0)).progress())
    (described,) = [p for p in tmp_path.glob("one/stages/*/stage.json") if '"epochs": 3' in p.read_text()]
    described.write_text(described.read_text().replace('"version": "', '"version": "0.0.0+'))
    assert _epochs(list(run_in_study(tmp_path, "two", trial(sparsity=0.0)).progress())) == 3
    (state,) = tmp_path.glob(f"two/stages/{described.parent.name}/state.safetensors")
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    assert _epochs(list(run_in_study(tmp_path, "three", trial(sparsity=0.0)).progress())) == 3


@pytest.mark.slow
def test_two_that_need_the_same_stage_train_it_once(tmp_path: Path) -> None:
    # In processes, as trials are: torch.fx traces one network per process at a time.
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_one_of_two, [tmp_path, tmp_path], ["one", "two"]))
    assert sum(epochs for epochs, _, _ in found) == 60 + 2 + 2
    assert found[0][1] == found[1][1]
    assert any(waited for _, _, waited in found)
    assert not list((tmp_path / ".flight").iterdir())


def _one_of_two(folder: Path, study: str) -> tuple[int, list[str], bool]:
    """Run a trial; return the epochs it trained, the weights it measured, and whether it waited."""
    (folder / f"{study}.ready").touch()
    while len(list(folder.glob("*.ready"))) < 2:
        time.sleep(0.01)
    progress = list(run_in_study(folder, study, trial(epochs=60, round_epochs=2)).progress())
    measured = [report.point.weights_sha256 for report in progress if report.point]
    return _epochs(progress), measured, any(report.waits_for for report in progress)


@pytest.mark.slow
def test_who_waits_for_a_stage_computes_it_when_the_owner_dies(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.trainables.factories import run_in_study, trial;"
        "progress = run_in_study(Path(sys.argv[1]), 'one', trial(epochs=100000)).progress();"
        "[print(r.epochs_trained, flush=True) for r in progress if r.epoch]"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert owner.stdout is not None
    owner.stdout.readline()
    progress = run_in_study(tmp_path, "two", trial(epochs=100000)).progress()
    waiting = next(report for report in progress if report.waits_for or report.epoch)
    assert waiting.waits_for is not None
    assert f"process {owner.pid} on" in waiting.waits_for
    owner.kill()
    owner.communicate()
    assert next(report for report in progress if report.epoch).epochs_trained == 1
    progress.close()
    assert not list((tmp_path / ".flight").iterdir())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_in_another_process(tmp_path: Path) -> None:
    code = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path;"
        "from tests.trainables.factories import run, trial, points;"
        "found = points(run(trial(int(sys.argv[2])), Path(sys.argv[1])).progress());"
        "print(*[p.weights_sha256 + p.verdicts for p in found])"
    )

    def elsewhere(folder: str, seed: int) -> str:
        command = [sys.executable, "-c", code, str(tmp_path / folder), str(seed)]
        root = Path(__file__).parents[3]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout

    here = points(run(trial(5), tmp_path / "here").progress())
    assert elsewhere("there", 5).split() == [p.weights_sha256 + p.verdicts for p in here]
    assert elsewhere("other", 6) != elsewhere("there", 5)


PARTIAL = PartialSchedule(levels=(1, 2, 4, 6), examples=64, steps=1)


def run_with(spec: TrialSpec, place: Path, number: int = 0, schedule: PartialSchedule | None = PARTIAL) -> Run:
    data = tensors.load(spec.data, CPU)
    return Run(spec, data, Stages(Storage(str(place))), number, "study", CPU, 0.0, schedule)


def partials(progress: Iterable[Progress]) -> list[PartialMeasurement]:
    return [report.partial for report in progress if report.partial is not None]


@pytest.mark.slow
def test_partial_measurements_are_made_where_due_and_change_no_result(tmp_path: Path) -> None:
    spec = trial(train={**FAST, "ema": 0.9})
    plain = points(run_with(spec, tmp_path / "plain", schedule=None).progress())
    progress = list(run_with(spec, tmp_path / "partial").progress())
    assert [(r.resource, r.measures, r.share) for r in partials(progress)] == [
        (1, 0, pytest.approx(1 / 3)),
        (2, 0, pytest.approx(2 / 3)),
        (4, 1, 0.5),
        (6, 2, 0.5),
    ]
    assert [round(r.sparsity, 3) for r in partials(progress)] == [0, 0, 0.5, 0.75]
    assert all((r.examples, r.attack) == (64, "PGD-1") for r in partials(progress))
    again = points(iter(progress))
    assert [p.weights_sha256 for p in again] == [p.weights_sha256 for p in plain]
    assert [(p.key, p.verdicts) for p in again] == [(p.key, p.verdicts) for p in plain]


def test_no_partial_measurement_is_made_at_the_end_of_a_training(tmp_path: Path) -> None:
    progress = list(
        run_with(trial(), tmp_path, schedule=PartialSchedule(levels=(3, 5), shares=(0.99,), examples=64)).progress()
    )
    assert partials(progress) == []


def test_a_restarted_trial_yields_stored_partial_measurements_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = partials(run_with(trial(), tmp_path).progress())
    monkeypatch.setattr("trainables.measure.evaluate.measure", None)
    progress = list(run_with(trial(), tmp_path).progress())
    assert partials(progress) == first
    assert not [report for report in progress if report.epoch]
    assert partials(run_with(trial(), tmp_path, number=1).progress()) == [], (
        "none of these epochs are another trial's own"
    )


def test_stored_partial_measurements_of_an_interrupted_training_come_before_it_resumes(tmp_path: Path) -> None:
    """Of another trial too: one that was stopped for what it showed is no better under another number."""
    stopped = run_with(trial(epochs=8), tmp_path).progress()
    seen = [next(report.partial for report in stopped if report.partial) for _ in range(3)]
    stopped.close()
    progress = run_with(trial(epochs=8), tmp_path, number=1).progress()
    known: list[PartialMeasurement] = []
    while not (report := next(progress)).epoch:
        known += partials([report])
    assert [(r.resource, r.robust_accuracy) for r in known] == [(r.resource, r.robust_accuracy) for r in seen]
    assert report.epoch.epoch == 5


@pytest.mark.slow
@pytest.mark.parametrize("partials_before_the_stop", [1, 3, 4])
def test_a_stopped_trial_is_continued_by_another_for_what_is_left(
    tmp_path: Path, partials_before_the_stop: int
) -> None:
    spec = trial(train={**FAST, "ema": 0.9})
    whole = points(run_with(spec, tmp_path / "whole", schedule=None).progress())
    stopped = run_with(spec, tmp_path / "parts").progress()
    for _ in range(partials_before_the_stop):
        at = next(report.partial for report in stopped if report.partial)
    stopped.close()
    left = list(run_with(spec, tmp_path / "parts", number=1, schedule=None).progress())
    assert len([report for report in left if report.epoch]) == 7 - at.resource
    assert [p.weights_sha256 for p in points(iter(left))] == [p.weights_sha256 for p in whole]
    assert points(iter(left))[-1].epochs_trained + points(iter(left))[-1].epochs_shared == 7


def screened(spec: TrialSpec, place: Path, front: list[dict[str, float]] | None, **settings: Any) -> list[Point]:
    data = tensors.load(spec.data, CPU)
    screen = None if front is None else Screen(front=tuple(front), **settings)
    return points(Run(spec, data, Stages(Storage(str(place))), 0, "study", CPU, screen=screen).progress())


@pytest.mark.slow
def test_points_that_the_front_rules_out_are_measured_cheaply_under_keys_of_their_own(tmp_path: Path) -> None:
    whole = screened(trial(), tmp_path / "whole", None)
    front = [{"robust_accuracy": 1.0, "sparsity": 0.6}]
    found = screened(trial(), tmp_path / "cheap", front, examples=32, steps=2)
    assert [(p.tier, p.examples, p.attack) for p in found] == [
        ("screened", 32, "PGD-2"),
        ("screened", 32, "PGD-2"),
        ("search", 100, "PGD-3"),
    ]
    assert [p.weights_sha256 for p in found] == [p.weights_sha256 for p in whole]
    assert not {p.key for p in found[:2]} & {p.key for p in whole}
    assert (found[2].key, found[2].verdicts) == (whole[2].key, whole[2].verdicts)
    assert all(few.robust_accuracy * 32 >= 0 and few.flags == () for few in found[:2])


def test_a_screened_point_is_measured_in_full_where_it_is_no_longer_ruled_out(tmp_path: Path) -> None:
    front = [{"robust_accuracy": 1.0, "sparsity": 0.99}]
    cheap = screened(trial(), tmp_path, front, examples=32)
    assert [p.tier for p in cheap] == ["screened"] * 3
    assert screened(trial(), tmp_path, front, examples=32) == cheap, "what is stored is not measured again"
    assert [p.tier for p in screened(trial(), tmp_path, [{"robust_accuracy": 0.0, "sparsity": 0.99}])] == ["search"] * 3
    assert [p.tier for p in screened(trial(), tmp_path, front, examples=32)] == ["search"] * 3, "a whole one wins"


def test_a_screening_of_the_same_protocol_is_not_taken_for_a_measurement(tmp_path: Path) -> None:
    same = {"examples": 100, "steps": 3}
    cheap = screened(trial(), tmp_path, [{"robust_accuracy": 1.0, "sparsity": 0.99}], **same)
    whole = screened(trial(), tmp_path, None)
    assert not {p.key for p in cheap} & {p.key for p in whole}
    assert [p.verdicts for p in cheap] == [p.verdicts for p in whole]
    assert {p.tier for p in whole} == {"search"}


def test_every_kind_of_phase_has_what_computes_it() -> None:
    kinds = [Phase]
    for kind in kinds:
        kinds += kind.__subclasses__()
    written = {kind for kind in kinds if isinstance(kind.model_fields["kind"].default, str)}
    ours = {kind for kind in written if kind.__module__.startswith("trainables.")}
    assert len(ours) == 9
    assert ours - {Measure} == set(COMPUTES)


def filters(*, shrink: bool) -> TrialSpec:
    """Return a trial that prunes whole filters and then trains for 3 epochs."""
    fields = {"kind": "filter", "sparsity": 0.6, "epochs": 3, "finetune_epochs": 3, "train": FAST}
    return trial().model_copy(update={"recipe": RECIPES.parse(fields), "shrink": shrink})


@pytest.mark.slow
def test_filters_that_are_pruned_whole_are_left_out_and_stored_as_zeros(tmp_path: Path) -> None:
    whole, small = filters(shrink=False), filters(shrink=True)
    found = {spec.shrink: points(run(spec, tmp_path / str(spec.shrink)).progress()) for spec in (whole, small)}
    (dense, one), (same_dense, other) = found[False], found[True]
    assert dense.key == same_dense.key
    assert one.key != other.key
    assert (one.sparsity, one.nonzero, one.parameters) == (other.sparsity, other.nonzero, other.parameters)
    assert one.robust_accuracy == pytest.approx(other.robust_accuracy, abs=0.03)
    states = [final_state(spec, tmp_path / str(spec.shrink)) for spec in (whole, small)]
    for name, p in states[0].params.items():
        found_p = states[1].params[name]
        assert found_p.shape == p.shape
        if name in states[0].masks:
            assert torch.equal(states[0].masks[name], states[1].masks[name])
            assert torch.equal(found_p == 0, p == 0)
    curves = [
        Stages(Storage(str(tmp_path / str(s.shrink)))).curve(point.stage) for s, point in ((whole, one), (small, other))
    ]
    assert [curve.size.partition(",")[0] for curve in curves if curve] == ["", "without pruned filters"]


@pytest.mark.slow
def test_a_killed_training_without_pruned_filters_resumes_to_the_same_bits(tmp_path: Path) -> None:
    spec = filters(shrink=True)
    wanted = points(run(spec, tmp_path / "whole").progress())[-1]
    progress = run(spec, tmp_path / "cut", checkpoint_seconds=0.0).progress()
    for now in progress:
        if now.epoch is not None and now.epoch.size and now.epoch.epoch == 2:
            break
    progress.close()
    again = list(run(spec, tmp_path / "cut").progress())
    assert [now.epoch.epoch for now in again if now.epoch is not None] == [3]
    found = points(iter(again))[-1]
    assert (found.key, found.weights_sha256, found.verdicts) == (wanted.key, wanted.weights_sha256, wanted.verdicts)
