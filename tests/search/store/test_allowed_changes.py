from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.launch.driver import Driver
from search.launch.prepare import create_or_update, resumed
from search.store.allowed_changes import effects
from search.store.records import Records
from search.study.spec import StudySpec
from tests.search import factories
from tests.search.command import run
from tests.search.synthetic import run_trials
from trainables.core.errors import SpecError
from trainables.store.storage import Storage

SPACE = {
    "recipe.sparsity": {"kind": "float", "low": 0.1, "high": 0.9},
    "recipe.train.eps": {"kind": "categorical", "choices": [0, 0.09]},
    "recipe.train.regularisers.l1": {"kind": "categorical", "choices": [0.0, 1e-5]},
    "recipe.rewind": {"kind": "categorical", "choices": ["none", 20]},
    "recipe.train.batch": {"kind": "int", "low": 64, "high": 192, "step": 64},
}
RECIPE = {"kind": "imp", "epochs": 40, "rate": 0.3, "round_epochs": 6}


def ladder(space: dict[str, Any] | None = None, **changes: Any) -> StudySpec:
    fixed = {"name": "ladder", "recipe": RECIPE, "constraints": {}, "sampler": "tpe", "budget": {"trials": 20}}
    return factories.study_spec(**{**fixed, "space": SPACE if space is None else space, **changes})


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """A study of four trials."""
    made = Records.create(Storage(str(tmp_path / "ladder")), ladder(), factories.FINGERPRINT)
    run_trials(made, 4)
    return made


WIDER = {
    **SPACE,
    "recipe.sparsity": {"kind": "float", "low": 0.0, "high": 0.98},
    "recipe.train.eps": {"kind": "categorical", "choices": [0, 0.06, 0.09]},
    "recipe.rewind": {"kind": "categorical", "choices": ["none", 20, 10]},
    "recipe.train.batch": {"kind": "int", "low": 32, "high": 256, "step": 32},
    "recipe.rate": {"kind": "float", "low": 0.1, "high": 0.5},
}


def test_every_effect_of_a_wider_space_is_said(records: Records) -> None:
    assert effects(records, ladder(WIDER)) == [
        "space.recipe.sparsity: was 0.1 to 0.9, is 0 to 0.98 from trial 4 on",
        "space.recipe.train.eps: was one of 0, 0.09, is one of 0, 0.06, 0.09 from trial 4 on",
        "space.recipe.rewind: was one of 'none', 20, is one of 'none', 20, 10 from trial 4 on",
        "space.recipe.train.batch: was 64 to 192 in steps of 64, is 32 to 256 in steps of 32 from trial 4 on",
        "space.recipe.rate: is searched from trial 4 on, 0.1 to 0.5; the trials so far have 0.3",
        "space.recipe.rewind: dense trainings are repeated where a trial rewinds to epoch 10",
    ]


def test_sampler_constraints_and_target_may_change(records: Records) -> None:
    new = ladder(sampler="ehvi", constraints={"clean_accuracy": ">= 0.5"}, target={"robust_accuracy": ">= 0.4"})
    assert [line.split(":")[0] for line in effects(records, new)] == ["sampler", "constraints", "target"]


def changed(path: str, **fields: Any) -> dict[str, Any]:
    return {**SPACE, path: {**SPACE[path], **fields}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "narrower": (
        {"space": changed("recipe.sparsity", high=0.8)},
        "sparsity: was 0.1 to 0.9, is 0.1 to 0.8: a space can only grow",
    ),
    "a choice less": ({"space": changed("recipe.train.eps", choices=[0])}, "recipe.train.eps: was one of 0, 0.09, is"),
    "a coarser grid": ({"space": changed("recipe.train.batch", step=128)}, "recipe.train.batch: .* only grow"),
    "a grid for a continuum": ({"space": changed("recipe.sparsity", step=0.1)}, "recipe.sparsity: .* only grow"),
    "another kind": (
        {"space": {**SPACE, "recipe.sparsity": {"kind": "categorical", "choices": [0.1, 0.9]}}},
        "recipe.sparsity: .* only grow",
    ),
    "gone": (
        {"space": {path: parameter for path, parameter in SPACE.items() if path != "recipe.rewind"}},
        "space.recipe.rewind: was removed, but trials differ in it",
    ),
    "new without the old value": (
        {"space": {**SPACE, "recipe.rate": {"kind": "float", "low": 0.4, "high": 0.5}}},
        "space: trials 0, 1, 2, 3 are outside it; a new parameter must include the value that they had",
    ),
    "protocol": ({"protocol": {"eps": 0.2}}, "protocol.eps: was 0.1, is 0.2"),
    "objectives": ({"objectives": {"robust_accuracy": "maximise"}}, "objectives.sparsity: was 'maximise', is gone"),
    "recipe": ({"recipe": {**RECIPE, "round_epochs": 7}}, "recipe.round_epochs: was 6, is 7"),
    "seed": ({"seed": 1}, "seed: was 0, is 1"),
    "warm start": ({"warm_start": ["other"]}, "warm_start: was .*, is"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_make_points_incomparable_stays_refused(case: str, records: Records) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(SpecError, match=message):
        resumed(ladder(**changes), records, allow_change=True)


def test_without_the_option_it_is_refused_and_named_where_it_would_help(records: Records) -> None:
    with pytest.raises(SpecError, match="or --allow-change"):
        resumed(ladder(WIDER), records)
    with pytest.raises(SpecError) as caught:
        resumed(ladder(seed=1), records)
    assert "--allow-change" not in str(caught.value)


@pytest.mark.parametrize("case", REFUSED)
def test_what_stays_refused_is_not_said_to_be_allowed(case: str, records: Records) -> None:
    with pytest.raises(SpecError, match=r"launch under another --name$"):
        resumed(ladder(**REFUSED[case][0]), records)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "ehvi", "gp", "qmc"])
@pytest.mark.slow
def test_old_trials_keep_their_numbers_and_the_search_resumes(records: Records, sampler: str) -> None:
    before = [record for record, _ in records.trials()]
    spec, expected_effects = resumed(ladder(WIDER, sampler=sampler), records, allow_change=True)
    create_or_update(spec, records.storage, records, factories.FOUND, print, expected_effects)
    again = Records.open(records.storage)
    assert [record for record, _ in again.trials()] == before
    driver = run_trials(again, 3)
    observed = list(driver._sampling.observations)
    assert all(trial.params["recipe.rate"] == 0.3 for trial in observed[: len(before)])
    following = [record for record, _ in again.trials()][4:]
    assert [record.number for record in following] == [4, 5, 6]
    assert all(list(record.params) == list(WIDER) for record in following)
    assert Driver(Records.open(records.storage)).snapshot().complete == 7


def test_the_study_says_that_it_was_changed(records: Records) -> None:
    spec, expected_effects = resumed(ladder(WIDER), records, allow_change=True)
    create_or_update(spec, records.storage, records, factories.FOUND, print, expected_effects)
    (change,) = Records.open(records.storage).fingerprint.changed
    assert (change.trials, change.effects) == (4, expected_effects)
    assert resumed(ladder(WIDER), Records.open(records.storage))[1] == ()


def test_the_command_says_what_it_means(records: Records, tmp_path: Path) -> None:
    file = tmp_path / "ladder.yaml"
    file.write_text(json.dumps(ladder(WIDER).resolved()))
    options = (str(file), "--storage", str(tmp_path), "--dry-run")
    assert run("launch", *options).exit_code == 2
    answer = json.loads(run("launch", *options, "--allow-change", "--json").stdout)
    assert answer["changes"] == effects(records, ladder(WIDER))
    assert "is searched from trial 4 on" in run("launch", *options, "--allow-change").stdout


def test_seeds_for_which_no_trials_are_left_are_said(tmp_path: Path) -> None:
    spec = ladder(seeds=[0, 1], budget={"trials": 4})
    records = Records.create(Storage(str(tmp_path / "ladder")), spec, factories.FINGERPRINT)
    run_trials(records, 4)
    _, told = effects(records, ladder(seeds=[0, 1, 5], budget={"trials": 4}))
    assert told == "seeds: this takes 6 trials, and the budget is 4; --trials 6 runs them"
    assert len(effects(records, ladder(seeds=[0, 1, 5], budget={"trials": 6}))) == 1


def test_seeds_of_replicates_can_only_be_added(tmp_path: Path) -> None:
    replicated = Records.create(Storage(str(tmp_path / "ladder")), ladder(seeds=[0, 1]), factories.FINGERPRINT)
    (told,) = effects(replicated, ladder(seeds=[0, 1, 5]))
    assert told.startswith("seeds: every configuration is run with 5 too")
    with pytest.raises(SpecError, match=r"seeds: was .*\n.*launch under another --name$"):
        resumed(ladder(seeds=[0]), replicated)
    with pytest.raises(SpecError, match="seeds: 1 left out"):
        effects(replicated, ladder(seeds=[0, 5]))
    with pytest.raises(SpecError, match="the trials so far are replicates"):
        effects(replicated, ladder())
    alone = Records.create(Storage(str(tmp_path / "plain")), ladder(), factories.FINGERPRINT)
    with pytest.raises(SpecError, match="the trials so far are not replicates"):
        effects(alone, ladder(seeds=[0]))
