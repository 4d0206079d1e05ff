"""A confirmation end to end, in this process, of a tiny study: what it writes, repeats, resumes and refuses."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import search
from search.launch import confirm as confirming
from search.launch import confirm_plan
from search.launch.confirm import ConfirmSnapshot
from search.launch.confirm_plan import NothingToConfirm, plan
from search.results.confirmed_network import Network
from search.results.study import Ending, Study
from search.store import confirmations, driver_lock
from tests.integration.waiting import wait_for
from tests.search.command import run
from tests.search.tiny import FIELDS
from trainables import models
from trainables.core.errors import DataError, ExitCode, RobustsearchError, SpecError, StorageError
from trainables.data import tensors
from trainables.data.base import Data
from trainables.data.digits import Digits
from trainables.data.heldout import load_test
from trainables.measure import confirm, evaluate
from trainables.measure.evaluate import unpack_verdicts
from trainables.method import confirmation
from trainables.method.confirmation import CLEAN, Step
from trainables.recipes.trial import TrialSpec
from trainables.store import confirmations as stored
from trainables.store import paths
from trainables.store.confirmations import Confirmation, bits
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker import confirm as worker

pytestmark = pytest.mark.slow

EXAMPLES = 40
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a study of two trials."""
    root = tmp_path_factory.mktemp("searched")
    search.launch(FIELDS, cluster="inline", storage=root, trials=2, quiet=True)
    return root


@pytest.fixture
def storage(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and attacks of a few steps."""

    def cheap(*args: Any, **options: Any) -> dict[str, tuple[Step, ...]]:
        found = confirmation.groups(*args, **options)
        return {group: tuple(map(_cheaper, steps)) for group, steps in found.items()}

    monkeypatch.setattr(confirm_plan, "groups", cheap)
    shutil.copytree(searched, tmp_path / "runs")
    return tmp_path / "runs"


def _cheaper(step: Step) -> Step:
    return step if step.attack is None else step.model_copy(update={"attack": step.attack.cheaper(3)})


def confirmed(
    storage: Path, view: Callable[[ConfirmSnapshot], None] = lambda now: None, **options: Any
) -> tuple[Study, Ending]:
    chosen: dict[str, Any] = {"examples": EXAMPLES, "attack": "pgd", "points": ("front",), **options}
    planned = plan("tiny", cluster="inline", storage=storage, **chosen)
    ending = confirming.confirm(planned, view=view, launch_view=lambda now: None, say=lambda line: None)
    return Study.open(str(storage / "tiny")), ending


def files(storage: Path) -> dict[str, bytes]:
    """Return the results on disk by path, to the last byte."""
    folder = storage / "tiny"
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.glob("confirm/[0-9a-f]*/*/*.json")}


def results(storage: Path) -> list[Confirmation]:
    return list(confirmations.read(Storage(str(storage / "tiny"))).found)


def test_the_front_is_measured_and_the_search_stays_as_it_was(storage: Path) -> None:
    folder = storage / "tiny"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "confirm" not in p.parts}
    front = [row.point for row in Study.open(str(folder)).front()]
    study, ending = confirmed(storage, seeds=2)
    assert ending.exit_code == ExitCode.DONE, ending.message
    assert {p: p.read_bytes() for p in before} == before
    rows = study.confirmed()
    assert [row.point for row in rows] == front == [row.point for row in study.front()]
    assert all(row.complete and row.examples == EXAMPLES and row.seeds == 2 for row in rows)
    assert {row.robust_accuracy_sd is None for row in rows} == {False}
    assert {each.seed for row in rows for each in row.replicates} == {0, 1}
    assert len({each.weights_sha256 for row in rows for each in row.replicates}) == 2 * len(rows)
    retrained = Study.open(str(folder / "confirm" / "seed-1"))
    again = {tuple(trial.params.items()) for trial in retrained.trials()}
    assert again == {tuple(row.params.items()) for row in study.front()}
    assert {trial.seed for trial in retrained.trials()} == {1}


def test_networks_that_configurations_share_are_measured_once(tmp_path: Path) -> None:
    train = {**FIELDS["recipe"]["train"], "eps": 0.01, "optimiser": {"kind": "adam", "lr": 1e-2}}
    shared = {
        **FIELDS,
        "name": "twins",
        "recipe": {**FIELDS["recipe"], "rate": 0.9, "epochs": 8, "train": train},
        "protocol": {**FIELDS["protocol"], "eps": 0.01},
        "space": {"recipe.sparsity": {"kind": "categorical", "choices": [0.95, 0.97]}},
        "sampler": "grid",
        "seeds": [0, 1],
    }
    search.launch(shared, cluster="inline", storage=tmp_path, trials=4, quiet=True)
    study = Study.open(str(tmp_path / "twins"))
    dense = [row for row in study.points() if row.measured.measure == 0]
    assert len({row.weights_sha256 for row in dense}) == 2 < len(dense), "both configurations prune the same networks"
    planned = plan("twins", cluster="inline", storage=tmp_path, attack="pgd")
    weights = [row.weights_sha256 for row in planned.rows]
    assert any(row.on_front for row in dense)
    assert len(weights) == len(set(weights))
    assert {row.network for row in planned.rows} == {row.network for row in study.front()}
    facts, points = confirm_plan.plan_facts(planned), len(study.front())
    assert facts["points"].startswith(f"{len(weights)} networks of {points} point")
    assert f", {points} of them on the front: " in facts["points"]
    assert facts["seeds"] == "0, 1"
    targeted = confirm_plan.plan_facts(plan("twins", cluster="inline", storage=tmp_path, attack="apgd-t"))
    assert targeted["attacks"].startswith("apgd-t, square, transfer-dense, transfer, fmn, sweep-0.25, ")


def test_results_are_those_of_a_direct_measurement_and_the_worst_counts(storage: Path) -> None:
    study, _ = confirmed(storage)
    row = next(row for row in study.confirmed() if row.sparsity > 0)
    trial = TrialSpec.model_validate(next(t for t, _ in study.records.trials() if t.number == row.trial).spec)
    data, test = tensors.load(trial.data), load_test(trial.data)
    state = Stages(study.records.storage).read(row.measured.stage)
    shape = {"shape": data.shape, "classes": data.classes, "mean": data.mean, "std": data.std}
    model = models.build(trial.model, **shape, seed=5)
    own = confirm.Subject.of(model, state, trial.protocol, torch.device("cpu"))
    split = tensors.Split(test.x[:EXAMPLES], test.y[:EXAMPLES], test.scale)

    clean = confirm.run(own, CLEAN, split, np.arange(EXAMPLES)).correct
    stands = clean.copy()
    steps = confirm_plan.groups(trial.protocol, [], first="pgd")["attacks"]
    for step in steps:
        index = np.flatnonzero(stands)
        stands[index] = confirm.run(own, step, split, index).correct
    mine = {r.attack: r for r in results(storage) if r.weights_sha256 == row.weights_sha256}
    assert np.array_equal(unpack_verdicts(mine["clean"].correct, EXAMPLES), clean)
    assert np.array_equal(unpack_verdicts(mine["square"].correct, EXAMPLES), stands)
    least = min(a.correct_count for a in mine.values() if a.role == "attack" and a.eps == row.eps)
    assert round(row.robust_accuracy * EXAMPLES) <= least
    assert row.robust_accuracy == Network(list(mine.values())).accuracy(row.eps).value
    assert 0 < row.robust_accuracy < row.clean_accuracy


def test_what_is_broken_is_not_attacked_again(storage: Path) -> None:
    study, _ = confirmed(storage)
    for row in study.confirmed():
        mine = {r.attack: r for r in results(storage) if r.weights_sha256 == row.weights_sha256}
        order = [name for name in mine["clean"].planned if not name.startswith(("fmn", "sweep"))]
        for before, after in pairwise(order):
            assert mine[after].attacked == mine[before].correct, f"{after} attacks what {before} left"
        sweep = [mine[name] for name in mine["clean"].planned if name.startswith("sweep")]
        near = {each.eps: _near(mine["fmn"], each.eps) for each in sweep}
        for before, after in pairwise(sweep):
            assert bits(after.attacked) == bits(before.correct) & ~near[after.eps]
        assert sweep[-1].correct_count == 0 == [at.accuracy.correct for at in row.curve][-1]
        accuracies = [at.accuracy.value for at in row.curve]
        assert accuracies == sorted(accuracies, reverse=True)


def _near(minimal: Confirmation, eps: float) -> int:
    assert minimal.distances is not None
    near = [d is not None and d <= eps for d in minimal.distances]
    return int.from_bytes(np.packbits(near).tobytes())


def test_nothing_is_measured_twice_and_what_is_missing_is(storage: Path) -> None:
    confirmed(storage)
    first = files(storage)
    _, ending = confirmed(storage)
    assert (files(storage), ending.exit_code) == (first, ExitCode.DONE)
    gone = next(path for path in first if path.endswith("square.json"))
    (storage / "tiny" / gone).unlink()
    confirmed(storage)
    again = files(storage)
    assert {path for path in first if again[path] != first[path]} == {gone}
    old, new = (Confirmation.model_validate_json(found[gone]) for found in (first, again))
    assert (old.attacked, old.correct) == (new.attacked, new.correct)
    assert new.started > old.started


def test_a_damaged_result_is_kept_apart_and_measured_again(storage: Path) -> None:
    confirmed(storage)
    path = next(path for path in files(storage) if path.endswith("fmn.json"))
    torn = storage / "tiny" / path
    torn.write_bytes(torn.read_bytes()[:100])
    study = Study.open(str(storage / "tiny"))
    assert [bad.path for bad in study.damaged_confirmations()] == [path]
    study, ending = confirmed(storage)
    assert ending.exit_code == ExitCode.DONE
    assert study.damaged_confirmations() == []
    assert (torn.parent / f"{torn.name}{paths.DAMAGED}0").stat().st_size == 100
    assert all(row.complete for row in study.confirmed())


def test_a_request_to_stop_ends_it_and_the_next_one_goes_on(storage: Path) -> None:
    own = Storage(str(storage / "tiny"))
    _, ending = confirmed(storage, view=lambda now: driver_lock.request_stop(own) if now.done else None)
    assert ending.exit_code == ExitCode.INTERRUPTED
    assert "resumes it" in ending.message
    kept = files(storage)
    study, ending = confirmed(storage)
    assert ending.exit_code == ExitCode.DONE
    assert kept.items() <= files(storage).items()
    assert 0 < len(kept) < len(files(storage))
    assert all(row.complete for row in study.confirmed())


def test_an_attack_that_is_interrupted_goes_on_after_what_is_done(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(evaluate.CHUNK, "cpu", 2)
    monkeypatch.setattr(worker, "SAVE_SECONDS", 0.0)
    planned = plan("tiny", cluster="inline", storage=storage, points=("front",), attack="pgd", examples=EXAMPLES)
    job = next(job for job in planned.jobs(0) if any(step["name"] == "fmn" for step in job["steps"]))
    whole = worker.run(job)
    assert "error" not in whole
    wanted = files(storage)
    for path in wanted:
        (storage / "tiny" / path).unlink()
    parts: list[str] = []
    attempts = 0
    while True:
        asked = iter(range(4 + attempts))
        answer = worker.run(job, cancelled=lambda asked=asked: next(asked, None) is None)
        attempts += 1
        found = [path.name for path in (storage / "tiny" / "confirm").rglob("*.part")]
        parts += found
        assert len(found) <= 1
        if not answer.get("cancelled"):
            break
    assert attempts > 2
    assert {"fmn.json.part"} <= {*parts}
    assert not found
    again = files(storage)
    assert again.keys() == wanted.keys()
    for path, content in again.items():
        one, other = (Confirmation.model_validate_json(text) for text in (content, wanted[path]))
        assert (one.attacked, one.correct, one.distances) == (other.attacked, other.correct, other.distances)


def test_the_beginning_of_another_measurement_is_not_continued(storage: Path) -> None:
    own = Storage(str(storage / "tiny"))
    begun = stored.Begun(of="this", examples=8, correct="ff", seconds=1.0)
    own.write("a.part", begun.json_bytes("a.part"))
    assert stored.read_begun(own, "a.part", "this") == begun
    assert stored.read_begun(own, "a.part", "other") is None
    assert stored.read_begun(own, "b.part", "this") is None
    own.write("a.part", begun.json_bytes("a.part").replace(b'"ff"', b'"fe"'))
    assert stored.read_begun(own, "a.part", "this") is None


def test_sets_of_examples_and_seeds_are_added_one_by_one(storage: Path) -> None:
    confirmed(storage, examples=20)
    first = files(storage)
    study, _ = confirmed(storage, examples=30)
    assert first.items() <= files(storage).items()
    assert {row.examples for row in study.confirmed()} == {30}
    assert {row.examples for row in study.confirmed(20)} == {20}
    study, _ = confirmed(storage, examples=20, seeds=2)
    assert first.items() <= files(storage).items()
    assert {row.seeds for row in study.confirmed(20)} == {2}


def test_progress_counts_results_and_forecasts_the_rest(storage: Path) -> None:
    seen: list[ConfirmSnapshot] = []
    confirmed(storage, view=seen.append, corruptions=True)
    assert (seen[-1].done, seen[-1].networks_done) == (seen[-1].total, seen[-1].networks)
    assert seen[-1].done == len(files(storage))
    assert (seen[0].remaining, seen[-1].remaining) == (None, 0.0)
    rows = Study.open(str(storage / "tiny")).confirmed()
    assert all(len(row.corruptions) == 12 for row in rows)


def test_points_without_weights_are_left_out(storage: Path) -> None:
    study = Study.open(str(storage / "tiny"))
    first, second = study.points()[:2]
    Stages(study.records.storage).drop(first.measured.stage)
    chosen = (first.point, second.point)
    planned = plan("tiny", cluster="inline", storage=storage, points=chosen, attack="pgd")
    assert planned.missing == (first.point,)
    assert [row.point for row in planned.rows] == [second.point]
    with pytest.raises(StorageError, match="are no longer stored"):
        plan("tiny", cluster="inline", storage=storage, points=(first.point,), attack="pgd")


def test_the_stage_of_another_network_counts_as_missing(storage: Path) -> None:
    first, second = Study.open(str(storage / "tiny")).points()[:2]
    stages = storage / "tiny" / "stages"
    shutil.rmtree(stages / first.measured.stage)
    shutil.copytree(stages / second.measured.stage, stages / first.measured.stage)
    planned = plan("tiny", cluster="inline", storage=storage, points=(first.point, second.point), attack="pgd")
    assert planned.missing == (first.point,)


def test_a_job_refuses_other_weights_data_or_images_and_says_so(storage: Path) -> None:
    planned = plan("tiny", cluster="inline", storage=storage, points=("front",), attack="pgd", examples=20)
    job = planned.jobs(0)[0]
    answers = {
        "holds other weights": worker.run({**job, "network": {**job["network"], "weights_sha256": "0" * 64}}),
        "differ from those": worker.run({**job, "fingerprint": "0" * 64}),
        "holds no study": worker.run({**job, "storage": str(storage / "elsewhere")}),
    }
    assert all(said in answer["error"] and answer["exit_code"] for said, answer in answers.items())
    assert files(storage) == {}
    assert worker.run(job)["done"] == ["clean", *(step["name"] for step in job["steps"])]
    path = next(path for path in files(storage) if path.endswith("clean.json"))
    clean = Confirmation.model_validate_json(files(storage)[path]).model_copy(update={"split_sha256": "0" * 64})
    (storage / "tiny" / path).write_bytes(clean.json_bytes())
    assert "other test images" in worker.run(job)["error"]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"points": ("t0.99",)}, SpecError, "--points t0.99: no such point in tiny"),
        (
            {"points": ("0.0", "front")},
            SpecError,
            "--points front: no such point in tiny.*; give near, front or paper alone",
        ),
        ({"attack": "pdg"}, SpecError, "--attack pdg: no such attack; did you mean 'pgd'|--attack pdg: no such attack"),
        ({"attack": "cw"}, SpecError, "not an attack in linf"),
        ({"cluster": "nowhere"}, SpecError, "nowhere"),
    ],
)
def test_what_cannot_be_confirmed_is_refused(
    searched: Path, options: dict[str, Any], error: type[RobustsearchError], says: str
) -> None:
    with pytest.raises(error, match=says):
        plan("tiny", **{"cluster": "inline", "storage": searched, **options})


def test_data_without_a_test_split_are_refused_before_anything_starts(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Digits, "read_test", Data.read_test)
    with pytest.raises(DataError, match="the data set digits has no test split; define `read_test`"):
        plan("tiny", cluster="inline", storage=searched, attack="pgd")
    said = run("confirm", "tiny", "--storage", searched, "--cluster", "inline", "--attack", "pgd", "--dry-run")
    assert said.exit_code == ExitCode.BAD_INPUT
    assert "has no test split" in said.stderr


def test_more_examples_than_there_are_are_refused_before_anything_starts(storage: Path) -> None:
    asked = ("confirm", "tiny", "--storage", storage, "--cluster", "inline", "--attack", "pgd", "--dry-run")
    said = run(*asked, "--examples", "360")
    assert said.exit_code == ExitCode.BAD_INPUT
    assert "--examples 360: the test split of digits has 359 images; leave it out for all" in said.stderr
    assert run(*asked, "--examples", "359").exit_code == ExitCode.DONE


def test_more_examples_than_the_selected_classes_have_is_bad_input(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Digits, "count_test", Data.count_test)
    monkeypatch.setattr(Digits, "test_images", None)
    _, ending = confirmed(storage, examples=100_000)
    assert ending.exit_code == ExitCode.BAD_INPUT
    assert "--examples 100000: the test split of digits has 359 images" in ending.message
    assert files(storage) == {}


def test_a_network_that_cannot_be_measured_leaves_the_others(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [row.point for row in Study.open(str(storage / "tiny")).points()[:2]]
    honest = worker.progress

    def failing(config: dict[str, Any], *rest: Any) -> Any:
        if config["network"]["point"] == chosen[0]:
            raise RuntimeError("no such operator")
        return honest(config, *rest)

    monkeypatch.setattr(worker, "progress", failing)
    study, ending = confirmed(storage, points=tuple(chosen))
    assert ending.exit_code == ExitCode.TRIALS_FAILED
    assert "no such operator" in ending.message
    assert [(row.point, row.complete) for row in study.confirmed()] == [(chosen[1], True)]


def test_a_study_without_a_feasible_point_has_nothing_to_confirm(tmp_path: Path) -> None:
    fields = {**FIELDS, "constraints": {"clean_accuracy": ">= 1"}, "budget": {"trials": 1}}
    search.launch(fields, cluster="inline", storage=tmp_path, quiet=True)
    with pytest.raises(NothingToConfirm, match="no feasible point"):
        plan("tiny", cluster="inline", storage=tmp_path)
    assert run("confirm", "tiny", "--storage", tmp_path, "--cluster", "inline").exit_code == ExitCode.NO_FEASIBLE_POINT


KILLED = """
import sys
from search.cli import main
from search.launch import confirm_plan
from trainables.method import confirmation

def cheap(*args, **options):
    found = confirmation.groups(*args, **options)
    less = lambda step: step if step.attack is None else step.model_copy(update={"attack": step.attack.cheaper(3)})
    return {group: tuple(map(less, steps)) for group, steps in found.items()}

confirm_plan.groups = cheap
main(["confirm", "tiny", "--storage", sys.argv[1], "--cluster", "inline", "--points", "front", "--attack", "pgd",
      "--examples", "40", "--seeds", "2", "--json"])
"""


def test_a_killed_confirmation_repeats_nothing(storage: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(storage)]
    kept: dict[str, bytes] = {}
    for enough in (3, 12):  # While the search's own networks are measured, twice.
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda enough=enough: len(files(storage)) >= enough)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert kept.items() <= files(storage).items()
        kept = files(storage)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert kept.items() <= files(storage).items()
    study = Study.open(str(storage / "tiny"))
    assert all(row.complete and row.seeds == 2 for row in study.confirmed())
    assert study.damaged_confirmations() == []
