"""A trial is refused where something that it is set to never comes due, and says which of its phases may shrink."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainables.core.errors import SpecError
from trainables.method.phases import Measure, Train
from trainables.models import MODELS
from trainables.recipes.flying_bird import EVERY
from trainables.recipes.trial import TrialSpec, keyed_phases


def trial(limit: int | None = 1000, kind: str = "flying_bird", **recipe: Any) -> TrialSpec:
    """Return a trial of 4 epochs of 10 steps, unless told otherwise."""
    train = {"batch": 100, **recipe.pop("train", {})}
    fields = {"kind": kind, "epochs": 4, "train": train, **recipe}
    data = {"kind": "mnist", "limit": limit} if limit else {"kind": "image_folder", "root": "."}
    return TrialSpec.model_validate({"data": data, "model": "lenet300", "recipe": fields})


@pytest.mark.parametrize(
    ("fields", "where", "message"),
    [
        ({"dynamics": {"every": 900}}, "recipe.dynamics.every", "no exchange comes due in a training of 40 steps"),
        ({"dynamics": {"every": 40}}, "recipe.dynamics.every", "no exchange"),
        (
            {"dynamics": {"every": 5, "plus": True}, "train": {"select": 10}},
            "recipe.dynamics.window",
            "plus never comes due in a training of 4 epochs",
        ),
        ({"kind": "gradual", "every": 30}, "recipe.every", "no cut but the last comes due in the 30 steps of 40"),
        (
            {"kind": "shi2022", "search_epochs": 2, "imitation": {"batch": 50}},
            "recipe.imitation.rerank",
            "the mask never changes in a search of 40 steps",
        ),
        (
            {"kind": "imp", "train": {"schedule": {"kind": "step", "at": [0.5, 0.99]}}},
            "recipe.train.schedule.at",
            "the fall after 0.99 never comes due in a training of 4 epochs",
        ),
        (
            {"kind": "imp", "train": {"schedule": {"kind": "step", "cycle": 9}}},
            "recipe.train.schedule.at",
            "the fall after 0.5 never comes due in a training of 4 epochs with a cycle of 9",
        ),
    ],
)
def test_what_never_comes_due_is_refused(fields: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        trial(**fields)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == where


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dynamics": {"every": 39}},
        {"dynamics": {"grow": "random"}},
        {"dynamics": {"every": 0.1, "plus": True, "window": 2}, "train": {"select": 10}},
        {"kind": "gradual"},
        {"kind": "gradual", "every": 29},
        {"kind": "shi2022", "search_epochs": 2, "imitation": {"batch": 50, "rerank": 0.1}},
        {"kind": "imp", "train": {"schedule": {"kind": "step", "at": [0.5, 0.975]}}},
        {"kind": "imp", "train": {"schedule": {"kind": "step", "cycle": 2}}},
    ],
)
def test_what_comes_due_once_is_allowed(fields: dict[str, Any]) -> None:
    trial(**fields).check_lengths(1000)


def test_a_data_set_of_unknown_size_is_checked_once_it_is_counted() -> None:
    unknown = trial(None, dynamics={"every": 900})
    unknown.check_lengths(100_000)
    with pytest.raises(SpecError, match=r"recipe\.dynamics\.every: no exchange comes due in a training of 40 steps"):
        unknown.check_lengths(1000)


def test_weights_are_exchanged_as_often_as_published_in_a_training_of_any_length() -> None:
    """78 times: 200 epochs of 352 steps have as many intervals of 900."""
    for epochs in (200, 20):
        found = trial(limit=45_000, epochs=epochs, dynamics={"plus": False}, train={"batch": 128}).recipe.phases()[1]
        steps = epochs * 352
        assert found.rewiring.every == EVERY  # type: ignore[attr-defined]
        due = [step for step in range(1, steps + 1) if found.rewiring.due(step, steps)]  # type: ignore[attr-defined]
        assert len(due) == 78
        assert due[0] == 900 * epochs // 200


def shrunk(**recipe: Any) -> list[tuple[str, bool]]:
    """Return the trainings and measurements of a trial that may shrink, and whether they do."""
    spec = trial(**recipe).model_copy(update={"shrink": True})
    return [(phase.kind, phase.shrunk) for phase in spec.phases() if isinstance(phase, (Train, Measure))]


def test_what_follows_the_pruning_of_filters_is_shrunk_until_they_are_inherited() -> None:
    dense = [("train", False), ("measure", False)]
    after = [("train", True), ("measure", True)]
    assert shrunk(kind="filter", sparsity=0.5) == dense + after
    assert shrunk(kind="three_stage", sparsity=0.5) == dense + dense
    assert shrunk(kind="three_stage", sparsity=0.5, prune={"structure": "2:4"}) == dense + dense
    twice = {"kind": "imp", "sparsity": 0.5, "rate": 0.3, "prune": {"structure": "filter"}}
    assert shrunk(**twice) == dense + after + after
    inherited = {"kind": "wang2020", "small": "filter", "sparsity": 0.5}
    assert shrunk(**inherited) == dense + after + dense


def test_a_training_in_which_filters_may_come_back_is_not_shrunk_but_measured_so() -> None:
    twin = shrunk(kind="twin_rep", sparsity=0.5, prune_epoch=1, prune={"structure": "filter"})
    assert twin == [("train", False), ("train", False), ("measure", True)]


def test_shrinking_changes_the_keys_of_what_it_concerns_alone() -> None:
    fields = {"kind": "filter", "sparsity": 0.5}
    whole, small = (trial(**fields).model_copy(update={"shrink": shrink}) for shrink in (False, True))
    steps = [keyed_phases(spec, "fingerprint") for spec in (whole, small)]
    # Initialisation, training, measurement, pruning; training, measurement.
    assert [a.key == b.key for a, b in zip(*steps, strict=True)] == [True] * 4 + [False] * 2
    unshrunk = trial(kind="three_stage", sparsity=0.5)
    same = [keyed_phases(unshrunk.model_copy(update={"shrink": s}), "fingerprint") for s in (False, True)]
    assert same[0] == same[1]


def test_a_measurement_right_after_the_pruning_has_a_key_of_its_own() -> None:
    fields = {"kind": "filter", "sparsity": 0.5, "finetune_epochs": 0}
    keys = [keyed_phases(trial(**fields).model_copy(update={"shrink": s}), "f")[-1].key for s in (False, True)]
    assert keys[0] != keys[1]


def sparse(model: str = "lenet300", **recipe: Any) -> list[bool]:
    """Return which trainings of a trial attack by sparse matrices where they are faster."""
    recipe["train"] = {"precision": "fp32", **recipe.get("train", {})}
    spec = trial(**recipe).model_copy(update={"sparse": True, "model": MODELS.parse(model)})
    return [phase.sparse for phase in spec.phases() if isinstance(phase, Train)]


def test_perceptrons_are_attacked_by_sparse_matrices_from_nine_tenths_on() -> None:
    ladder = {"kind": "imp", "sparsity": 0.95, "rate": 0.5}
    assert sparse(**ladder) == [False, False, False, False, True, True]
    assert not any(sparse("lenet5", **ladder))
    assert not any(sparse(**ladder, train={"precision": "bf16"}))
    assert not any(sparse(**ladder, train={"loss": "natural"}))
    assert not any(sparse(kind="filter", sparsity=0.95))
    assert not any(sparse(kind="flying_bird", sparsity=0.95))
    assert sparse(kind="wang2020", sparsity=0.95) == [False, True, False], "the last is dense again"


def test_sparse_matrices_change_the_keys_of_the_trainings_that_use_them_and_of_what_follows() -> None:
    fields = {"kind": "imp", "sparsity": 0.95, "rate": 0.5, "train": {"precision": "fp32"}}
    steps = [
        keyed_phases(trial(**fields).model_copy(update={"sparse": sparse}), "fingerprint") for sparse in (False, True)
    ]
    same = [a.key == b.key for a, b in zip(*steps, strict=True)]
    first = next(at for at, (step, equal) in enumerate(zip(steps[1], same, strict=True)) if not equal)
    assert same == [True] * first + [False] * (len(same) - first)
    phase = steps[1][first].phase
    assert isinstance(phase, Train)
    assert phase.sparse


@pytest.mark.parametrize(
    ("kind", "fields", "refused"),
    [
        ("imp", {"rewind": "init"}, True),
        ("imp", {"rewind": "none"}, False),
        ("shi2022", {"method": "awt", "search_epochs": 40}, True),
        ("shi2022", {"method": "prune"}, False),
        ("shi2022", {"method": "prune", "weights": "random"}, True),
        ("twin_rep", {"prune_epoch": 2}, True),
        ("twin_rep", {"prune_epoch": 2, "factors": False}, False),
        ("gradual", {"every": 5}, True),
        ("guo2018", {"splice": True}, True),
        ("guo2018", {}, False),
        ("radmm", {"admm_epochs": 4, "update_epochs": 1, "retrain_epochs": 2}, True),
        ("three_stage", {}, False),
    ],
)
def test_a_rescaling_of_weights_that_are_not_trained_is_refused(
    kind: str, fields: dict[str, Any], refused: bool
) -> None:
    fields = {"epochs": 8, "sparsity": 0.5, **fields}
    trial(kind=kind, **fields)
    fields["prune"] = {"rescale": True, **({"scope": "layerwise"} if kind == "radmm" else {})}
    if not refused:
        trial(kind=kind, **fields)
        return
    with pytest.raises(ValidationError) as caught:
        trial(kind=kind, **fields)
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] in (
        ["recipe.prune.rescale"],
        [f"recipe.{kind}.prune.rescale"],
    )
