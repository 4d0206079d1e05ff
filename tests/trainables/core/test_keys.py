"""Keys are a contract with what is stored: the golden file pins the literals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainables.core.keys import canonical_json, digest
from trainables.recipes.trial import KeyedPhase, TrialSpec, keyed_phases

GOLDEN = Path(__file__).parents[2] / "golden" / "keys.json"


def _trial(**recipe: Any) -> TrialSpec:
    fields = {"kind": "imp", "sparsity": 0.75, "rate": 0.5, "rewind": 2, **recipe}
    return TrialSpec.model_validate(
        {"data": "digits", "model": "lenet300", "recipe": fields, "protocol": {"eps": 0.1}, "seed": 3}
    )


def _keys(trial: TrialSpec) -> list[str]:
    return [step.key for step in keyed_phases(trial, "fingerprint")]


def test_keys_equal_the_golden_ones() -> None:
    named = {
        "imp": _keys(_trial()),
        "imp with everything": _keys(
            _trial(
                train={
                    "eps": "8/255",
                    "loss": {"kind": "trades", "beta": 3},
                    "regularisers": {"l1": 1e-5},
                    "precision": "bf16",
                    "schedule": {"kind": "step", "warmup": 1},
                },
                prune={"pruner": "random", "scope": "layerwise", "prune_first": False},
            )
        ),
        "three_stage": _keys(
            _trial().model_copy(
                update={
                    "recipe": TrialSpec.model_validate(
                        {"data": "digits", "model": "lenet300", "recipe": {"kind": "three_stage"}}
                    ).recipe
                }
            )
        ),
        "filter, shrunk": _keys(
            TrialSpec.model_validate(
                {"data": "digits", "model": "lenet300", "recipe": {"kind": "filter", "sparsity": 0.5}, "shrink": True}
            )
        ),
    }
    assert named == json.loads(GOLDEN.read_text())


def _differing(a: TrialSpec, b: TrialSpec) -> list[bool]:
    return [x != y for x, y in zip(_keys(a), _keys(b), strict=True)]


def test_the_sparsity_of_the_last_round_leaves_all_earlier_stages_alone() -> None:
    changed = _differing(_trial(sparsity=0.7), _trial(sparsity=0.75))
    assert changed == [False] * 7 + [True] * 4


def test_a_sparser_trial_continues_the_ladder_of_a_denser_one() -> None:
    denser, sparser = _keys(_trial(sparsity=0.75)), _keys(_trial(sparsity=0.9))
    assert sparser[: len(denser)] == denser


def test_the_rewind_epoch_leaves_the_dense_training_alone() -> None:
    changed = _differing(_trial(rewind=2), _trial(rewind=3))
    assert changed[:4] == [False] * 4
    assert all(changed[4:7])


def test_the_training_radius_changes_every_stage_but_the_initialisation() -> None:
    changed = _differing(_trial(), _trial(train={"eps": 0.2}))
    assert changed == [False] + [True] * (len(changed) - 1)


def test_the_protocol_changes_measurements_only() -> None:
    trial = _trial()
    other = trial.model_copy(update={"protocol": trial.protocol.model_copy(update={"seed": 9})})
    for step, changed in zip(keyed_phases(trial, "f"), _differing(trial, other), strict=True):
        assert changed == (step.phase.kind == "measure")


def test_data_and_seed_change_everything() -> None:
    trial = _trial()
    assert not set(_keys(trial)) & {step.key for step in keyed_phases(trial, "other data")}
    assert not set(_keys(trial)) & set(_keys(trial.model_copy(update={"seed": 4})))


def test_the_location_of_files_and_what_is_kept_changes_no_key() -> None:
    trial = _trial()
    moved = trial.model_copy(update={"data": trial.data.model_copy(update={"root": "elsewhere"}), "snapshots": (1, 5)})
    assert _keys(moved) == _keys(trial)
    first = next(step.phase for step in keyed_phases(moved, "f") if step.phase.kind == "train")
    assert first.snapshots == (1, 2, 5)  # type: ignore[attr-defined]


def test_each_step_starts_from_the_last_state() -> None:
    chain: tuple[KeyedPhase, ...] = keyed_phases(_trial(), "f")
    state = chain[0].key
    for step in chain[1:]:
        assert step.parent == state
        if step.phase.kind != "measure":
            state = step.key


def test_canonical_json_is_independent_of_order_and_refuses_what_is_not_finite() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"\\u00e9"],"b":1}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))
