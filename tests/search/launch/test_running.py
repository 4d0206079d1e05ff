"""What the driver knows of running trials: by their chain of phases, and by what their workers say."""

from __future__ import annotations

import pytest

from search.launch.running import RunningTrials
from search.store.live import RunningTrial
from tests.search.factories import DATA_HASH
from trainables.method.phases import EpochPhase, Measure
from trainables.recipes.trial import KeyedPhase, TrialSpec, keyed_phases

TRIAL = TrialSpec.model_validate(
    {
        "data": "digits",
        "model": "lenet300",
        "recipe": {"kind": "imp", "sparsity": 0.75, "rate": 0.5, "epochs": 20, "round_epochs": 5, "rewind": "none"},
        "protocol": {"eps": 0.1, "examples": 100, "attack": {"kind": "pgd", "steps": 3}},
    }
)
CHAIN = keyed_phases(TRIAL, DATA_HASH)
TRAININGS = [at for at, step in enumerate(CHAIN) if isinstance(step.phase, EpochPhase)]
MEASURES = [at for at, step in enumerate(CHAIN) if isinstance(step.phase, Measure)]


def started(stored: set[str] | None = None, chain: tuple[KeyedPhase, ...] = CHAIN) -> RunningTrials:
    trials = RunningTrials()
    trials.start(3, chain, stored or set())
    return trials


def only(trials: RunningTrials) -> RunningTrial:
    (trial,) = trials.now()
    return trial


def test_a_trial_goes_through_its_phases() -> None:
    trials = started()
    assert (only(trials).phase, only(trials).points, only(trials).done) == ("starting", 0, 0.0)
    trials.report(3, 1, host="node-1")
    assert (only(trials).phase, only(trials).epoch, only(trials).epochs) == ("train", 0, 20)
    trials.report(3, TRAININGS[0], epoch=12, loss=0.5)
    now = only(trials)
    assert (now.number, now.phase, now.epoch, now.epochs, now.loss, now.host) == (3, "train", 12, 20, 0.5, "node-1")
    assert now.done == pytest.approx(12 / 30)
    trials.report(3, TRAININGS[0], epoch=20, loss=0.25)
    assert (only(trials).phase, only(trials).epoch, only(trials).loss) == ("measure", None, None), "what comes next"
    assert only(trials).done == pytest.approx(20 / 30)
    trials.measured(3, 1, 0.5)
    trials.report(3, MEASURES[0] + 1)
    assert (only(trials).phase, only(trials).epoch, only(trials).epochs, only(trials).points) == ("train", 0, 5, 1)
    trials.report(3, len(CHAIN))
    assert only(trials).done == 1.0
    trials.end(3)
    assert trials.now() == ()


def test_stored_trainings_are_no_work_of_the_trial() -> None:
    trials = started({step.key for step in CHAIN[: TRAININGS[1]]})
    assert only(trials).done == 0.0
    trials.report(3, 1)
    assert (only(trials).phase, only(trials).epoch, only(trials).epochs) == ("train", 0, 5), "not the stored one"
    trials.report(3, TRAININGS[1], epoch=5, loss=1.0)
    assert only(trials).done == pytest.approx(0.5)


def test_a_stored_training_that_is_trained_again_is_shown() -> None:
    trials = started({step.key for step in CHAIN[: TRAININGS[1]]})
    trials.report(3, TRAININGS[0], epoch=2, loss=1.0)
    assert (only(trials).epoch, only(trials).epochs) == (2, 20)


def test_a_trial_that_waits_says_for_whom() -> None:
    trials = started()
    trials.report(3, TRAININGS[0], waits_for="process 7 on node-2, started then")
    assert only(trials).waits_for == "process 7 on node-2, started then"
    trials.report(3, TRAININGS[0], epoch=1, loss=1.0)
    assert only(trials).waits_for is None


def test_a_loss_that_is_no_number_and_a_trial_that_is_unknown_are_left_out() -> None:
    trials = started()
    trials.report(3, TRAININGS[0], epoch=1, loss=float("nan"))
    assert only(trials).loss is None
    trials.report(99, 0, epoch=1, loss=1.0)
    trials.measured(99, 1, 0.5)
    trials.end(99)
    assert only(trials).number == 3


def test_a_chain_without_epochs_can_be_shown() -> None:
    trials = started(chain=())
    trials.report(3, 0)
    assert only(trials).done == 0.0
    trials = started(chain=CHAIN[:1])
    trials.report(3, 1)
    assert only(trials).epoch is None


def test_times_are_those_since_its_start_and_since_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    trials = started()
    now[0] = 130.0
    trials.report(3, 1)
    now[0] = 145.0
    assert (only(trials).seconds, only(trials).silent) == (45.0, 15.0)
