"""The glue does what ours does, and the report computes what it says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import glue
import glue_report
import numpy as np
import pytest
import torch
from glue_trial import Data, Setting, Trial, cosine, levels, pgd, prunable

from search.samplers import SAMPLERS
from search.store.records import Records
from search.study import file as study_file
from tests.search import factories, synthetic
from trainables.method.phases import Train
from trainables.method.schedules import Cosine
from trainables.recipes.base import ladder
from trainables.recipes.trial import keyed_phases
from trainables.store.state import State
from trainables.store.storage import Storage

SETTING = Setting(
    model="lenet300",
    hidden=(8, 6),
    epochs=2,
    round_epochs=1,
    rate=0.5,
    batch=16,
    lr=5e-3,
    warmup=1,
    clean=0.0,
    attack_steps=2,
    attack_share=0.5,
    flip=False,
    test_eps=0.1,
    test_steps=2,
    examples=20,
)
PARAMS = {
    "recipe.sparsity": 0.8,
    "recipe.train.eps": 0.1,
    "recipe.rewind": 1,
    "recipe.train.regularisers.l1": 1e-5,
}


def data() -> Data:
    torch.manual_seed(0)
    x, y = torch.rand(60, 1, 8, 8), torch.randint(10, (60,))
    return Data(x[:40], y[:40], x[40:], y[40:], (0.5,), (0.3,))


def line(points: list[list[float]], **more: Any) -> dict[str, Any]:
    known = {"seed": 0, "load": [1.0, 1.0], "trials": 2, "own": 4.0, "first": points[0][0] - 1, "seconds": 99.0}
    return {**known, "finished": "2030-01-02T03:04:05+00:00", "points": points, **more}


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.75, 0.8, 0.98])
def test_the_levels_are_those_of_the_recipe(sparsity: float) -> None:
    assert levels(0.5, sparsity) == pytest.approx(list(ladder(0.5, sparsity)))


@pytest.mark.parametrize("epoch", [0.0, 0.3, 1.0, 2.5, 3.9])
def test_the_schedule_is_that_of_the_study(epoch: float) -> None:
    assert cosine(epoch, 4, 1) == pytest.approx(Cosine(warmup=1).factor(epoch, 4))


def test_an_attack_stays_in_the_ball_and_the_box_and_raises_the_loss() -> None:
    found, trial = data(), Trial(SETTING, data(), PARAMS, seed=0)
    attacked = pgd(trial.net, found.x, found.y, eps=0.1, step=0.05, steps=5)
    assert (attacked - found.x).abs().max() <= 0.1 + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    clean, worse = (torch.nn.functional.cross_entropy(trial.net(x), found.y) for x in (found.x, attacked))
    assert worse > clean


@pytest.mark.parametrize("to", ["none", "init", 1, "dense_trained", "random"])
def test_a_trial_measures_every_level_at_its_exact_sparsity(to: str | int) -> None:
    trial = Trial(SETTING, data(), {**PARAMS, "recipe.rewind": to}, seed=0)
    size = sum(layer.weight.numel() for layer in prunable(trial.net))
    points = list(trial.run())
    assert [round(point["sparsity"] * size) for point in points] == [
        round(level * size) for level in (0.0, *levels(0.5, 0.8))
    ]
    assert trial.epochs == 2 + len(levels(0.5, 0.8))
    for sparser, denser in zip(points[1:], points, strict=False):
        for name, weight in denser["state"].items():
            if name.endswith("weight"):
                assert (sparser["state"][name][weight == 0] == 0).all()


def test_the_studies_are_the_glues_too() -> None:
    """Nothing of a study is left out: its networks have the glue's shapes, and its parameters are those of a trial."""
    for name in glue.STUDIES:
        spec, _ = glue.study(name, 0)
        assert set(spec.space) == set(PARAMS)
        assert not spec.constraints
        recipe: Any = spec.recipe
        assert (recipe.kind, recipe.train.optimiser.kind, recipe.train.schedule.kind) == ("imp", "adam", "cosine")
        assert recipe.train.loss.kind in {"madry", "mix"}
        defaults = study_file.load("quickstart").recipe.train.model_dump(
            exclude={"batch", "optimiser", "schedule", "loss", "attack", "eps", "precision", "flip", "regularisers"}
        )
        assert recipe.train.model_dump(include=set(defaults)) == defaults


def test_without_sharing_no_two_trials_have_a_training_in_common(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SAMPLERS, "_table", dict(SAMPLERS))  # Other tests know no plug-in.
    spec, _ = glue.study("quickstart", 0, "ours-unshared")
    spec = spec.model_copy(update={"protocol": synthetic.ladder_study("ehvi").protocol})
    records = Records.create(Storage(str(tmp_path)).child("study"), spec, factories.FINGERPRINT)
    synthetic.run_trials(records, 8)
    keys = [
        step.key
        for record, _ in records.trials()
        for step in keyed_phases(spec.trial(record.params), "")
        if isinstance(step.phase, Train)
    ]
    assert len(keys) > 8
    assert len(set(keys)) == len(keys)


def test_networks_of_the_glue_are_measured_as_ours() -> None:
    spec, _ = glue.study("quickstart", 0)
    bench = glue.Bench(spec)
    state = State.of(bench.model)
    dense = Trial(bench.glue_setting(), bench.glue_data(), PARAMS, seed=0)
    assert [p.shape for p in dense.net.parameters()] == [p.shape for p in state.params.values()]
    x = bench.data.validation.pixels()[:5]
    with torch.no_grad():
        for own, other in zip(dense.net.parameters(), state.params.values(), strict=True):
            own.copy_(other)
        assert torch.allclose(dense.net(x), bench.model.eval()(x), atol=1e-5)
    measured = glue.evaluate.measure(bench.model, state, spec.protocol, bench.data.validation, device="cpu")
    assert bench.robust(state.params) == measured.robust_correct.mean()


def test_times_to_shares_of_the_lower_final_are_compared() -> None:
    mine = line([[10.0, 0.5, 0.8, 10], [20.0, 0.6, 0.9, 10]], side="ours")
    theirs = line([[15.0, 0.5, 0.4, 40], [60.0, 0.5, 0.9, 40]], side="glue")
    assert glue_report.rise(mine)[-1] == (20.0, 20, pytest.approx(0.54))
    assert glue_report.until(glue_report.rise(theirs), 0.45) == (60.0, 80)
    assert glue_report.until(glue_report.rise(theirs), 0.5) == (math.inf, math.inf)
    text = "\n".join(glue_report.report([mine, theirs], workers=2))
    # To 0.45, the glue's final: 60 s and 80 epochs against 20 s and 20.
    assert "to 100% of the lower final: time 3.00 (3.00..3.00); epochs 4.00 (4.00..4.00)" in text
    # To half of it ours needs its first network.
    assert "to  50% of the lower final: time 6.00" in text
    assert "hypervolume of ours, n = 1: 10 s 0.40 (0.40..0.40), at the end 0.54 (0.54..0.54)" in text
    assert "hypervolume of glue, n = 1: 10 s 0.00 (0.00..0.00), 20 s 0.20 (0.20..0.20)" in text
    assert "goals: not judged: n = 1" in text


def test_the_side_that_ran_first_is_said() -> None:
    mine = line([[10.0, 0.5, 0.8, 10]], side="ours", finished="2030-01-02T03:05:00+00:00")
    theirs = line([[15.0, 0.5, 0.4, 40]], side="glue", finished="2030-01-02T03:04:00+00:00")
    assert "  seed 0, glue first" in list(glue_report.report([mine, theirs], workers=2))


def test_an_interval_of_a_ratio_is_students() -> None:
    """Of five seeds a bootstrap covers the mean in five of six cases only."""
    found = glue_report.between([math.exp(x) for x in (-1.0, 0.0, 1.0)])
    half = 4.3027 / math.sqrt(3)
    assert found == f"1.00 (0.37..2.72), mean 1.00 [{math.exp(-half):.2f}, {math.exp(half):.2f}]"
    draws = np.random.default_rng(0).normal(size=(400, 5))
    covered = [abs(row.mean()) <= glue_report.half_width(row.var(ddof=1), 5) for row in draws]
    assert sum(covered) >= 0.92 * len(covered)


def test_the_goals_are_judged_from_five_seeds_on() -> None:
    mine, theirs = (glue_report.rise(line([[at, 0.5, 0.9, 1]])) for at in (10.0, 60.0))
    assert glue_report.judged([(mine, theirs)] * 4) == "not judged: n = 4, and 5 are needed"
    met = "6 times to the lower final met (6.00); never behind after 30 s met"
    assert glue_report.judged([(mine, theirs)] * 5) == met
    ahead = glue_report.rise(line([[10.0, 0.5, 0.9, 1], [50.0, 0.6, 0.9, 1]]))
    wanted = "6 times to the lower final missed (3.49); never behind after 30 s missed in 1 seeds"
    late = glue_report.rise(line([[40.0, 0.5, 0.9, 1]]))
    assert glue_report.judged([(mine, theirs)] * 4 + [(late, ahead)]) == wanted.replace(
        "3.49", f"{6**0.8 * 0.25**0.2:.2f}"
    )


@pytest.mark.parametrize(("mine", "verdict"), [(0.5, "within 1 point"), (0.6, glue_report.DIFFER), (0.508, "open")])
def test_networks_of_both_sides_agree_within_a_point_differ_or_leave_it_open(mine: float, verdict: str) -> None:
    noise = [-0.004, 0.0, 0.004, 0.002, -0.002]
    trainings = [{"ours": [[mine + x, 0.5]], "glue": [[0.5 - x, 0.5]]} for x in noise]
    (text,) = glue_report.compared(trainings)
    assert text.endswith(f"5 trainings each: {verdict}")


def test_being_behind_counts_after_the_head_start() -> None:
    early = glue_report.rise(line([[10.0, 0.5, 0.5, 1]]))
    late = glue_report.rise(line([[20.0, 0.5, 0.9, 1]]))
    later = glue_report.rise(line([[40.0, 0.5, 0.9, 1]]))
    assert glue_report.behind(late, early) == 0
    assert glue_report.behind(later, early) == 40
    assert glue_report.behind(early, later) == 40
