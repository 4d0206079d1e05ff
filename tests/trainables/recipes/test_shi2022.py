from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import models
from trainables.core.spec import plain
from trainables.data import tensors
from trainables.method.phases import Imitate, Measure, Prune, Rewind, Train
from trainables.recipes.shi2022 import Shi2022
from trainables.recipes.trial import TrialSpec, keyed_phases
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Storage
from trainables.worker.progress import Progress
from trainables.worker.run import Run

CPU = torch.device("cpu")
FAST = {"batch": 100, "eps": 0.1, "attack": {"kind": "pgd", "steps": 1}, "precision": "fp32"}
SEARCH = {"kind": "pgd", "steps": 1}


def trial(**recipe: Any) -> TrialSpec:
    imitation = {
        "rerank": 3,
        "optimiser": {"kind": "adam", "lr": 4e-3},
        "attack": SEARCH,
        **recipe.pop("imitation", {}),
    }
    fields = {"epochs": 1, "search_epochs": 2, "sparsity": 0.7, "imitation": imitation, "train": FAST, **recipe}
    metrics = [{"kind": "dense_distance", "examples": 16, "inputs": "clean"}]
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits", "limit": 300, "validation": 100},
            "model": {"kind": "lenet300", "hidden": [16]},
            "recipe": {"kind": "shi2022", **fields},
            "protocol": {"eps": 0.1, "examples": 50, "attack": {"kind": "pgd", "steps": 1}, "metrics": metrics},
        }
    )


def run(spec: TrialSpec, folder: Path, stop: int | None = None) -> list[Progress]:
    data = tensors.load(spec.data, CPU)
    found = []
    reports = Run(spec, data, Stages(Storage(str(folder))), 0, "study", CPU, checkpoint_seconds=0.0).progress()
    for count, report in enumerate(reports, start=1):
        found.append(report)
        if count == stop:
            reports.close()
    return found


def states(spec: TrialSpec, folder: Path) -> dict[str, State]:
    """Return what the phases of a finished trial left, by kind."""
    stages = Stages(Storage(str(folder)))
    found = {}
    for step in keyed_phases(spec, tensors.load(spec.data, CPU).fingerprint):
        if not isinstance(step.phase, Measure):
            state = stages.load(step.key)
            assert state is not None
            found[step.phase.kind] = state
    return found


def test_no_dense_network_is_trained() -> None:
    search, train, end = Shi2022(epochs=7, search_epochs=3).phases()
    assert isinstance(search, Imitate)
    assert isinstance(train, Train)
    assert (search.length, search.sparsity, search.pruning.scope, train.length) == (3, 0.9, "layerwise", 7)
    assert end == Measure()
    assert [phase.kind for phase in Shi2022(sparsity=0.0, measure_start=True).phases()] == [
        "measure",
        "train",
        "measure",
    ]


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({"weights": "init"}, "imitate rewind train measure"),
        ({"weights": "random", "measure_start": True}, "imitate rewind measure train measure"),
        ({"method": "prune"}, "prune train measure"),
        ({"method": "prune", "weights": "init"}, "prune train measure"),
        ({"method": "prune", "weights": "random"}, "prune rewind train measure"),
    ],
)
def test_the_mask_gets_the_weights_it_is_to_have(fields: dict[str, Any], kinds: str) -> None:
    phases = Shi2022(**fields).phases()
    assert [phase.kind for phase in phases] == kinds.split()
    assert [phase.to for phase in phases if isinstance(phase, Rewind)] in ([], [fields.get("weights")])
    assert [phase.sparsity for phase in phases if isinstance(phase, (Imitate, Prune))] == [0.9]


def test_a_search_that_is_not_adversarial_needs_no_radius_and_a_wrong_one_is_refused() -> None:
    assert not Shi2022.model_validate(
        {"imitation": {"target_inputs": "clean", "kernel_inputs": "clean"}}
    ).imitation.attacks
    with pytest.raises(ValueError, match="did you mean 8/255"):
        Shi2022.model_validate({"imitation": {"eps": 8}})


def test_epochs_of_the_search_are_counted_and_its_mask_is_trained(tmp_path: Path) -> None:
    spec = trial(measure_start=True)
    reports = run(spec, tmp_path)
    before, after = (report.point for report in reports if report.point is not None)
    assert (before.epochs_trained, after.epochs_trained) == (2, 3)
    assert before.metrics.keys() == {"target_distance_clean", "kernel_distance_clean", "kernel_relative_clean"}
    found = states(spec, tmp_path)
    for name, mask in found["imitate"].masks.items():
        assert torch.equal(found["train"].masks[name], mask)
    again = run(spec.model_copy(update={"seed": 0}), tmp_path)
    assert all(report.epoch is None for report in again)


@pytest.mark.slow
def test_the_search_comes_nearer_than_the_mask_it_starts_with(tmp_path: Path) -> None:
    settings = {"target_inputs": "clean", "kernel_inputs": "clean"}
    searched = trial(measure_start=True, search_epochs=12, imitation={**settings, "kernel": 1e-2})
    control = trial(measure_start=True, method="prune")
    ours, theirs = (next(r.point for r in run(spec, tmp_path) if r.point is not None) for spec in (searched, control))
    for name, distance in theirs.metrics.items():
        assert (ours.metrics[name] or 0) < 0.8 * (distance or 0), name


@pytest.mark.slow
@pytest.mark.parametrize("learn", ["weights", "mask"])
def test_a_search_broken_off_between_its_epochs_ends_with_the_same_bits(tmp_path: Path, learn: str) -> None:
    spec = trial(search_epochs=4, imitation={"learn": learn, "kernel": 0.1, "outputs": "random", "attacked": "sparse"})
    run(spec, tmp_path / "whole")
    for stop in (2, 3, 4):
        broken = run(spec, tmp_path / "broken", stop)
        assert broken[-1].epoch is not None
    run(spec, tmp_path / "broken")
    whole, broken_off = (states(spec, tmp_path / folder) for folder in ("whole", "broken"))
    for kind, state in whole.items():
        assert state.weights_sha256() == broken_off[kind].weights_sha256()
        assert all(torch.equal(mask, broken_off[kind].masks[name]) for name, mask in state.masks.items())


@pytest.mark.parametrize("pruner", ["snip", "grasp", "synflow", "ntk_sap"])
def test_controls_use_the_network_at_initialisation(tmp_path: Path, pruner: str) -> None:
    fields = {"inputs": "pgd", "eps": 0.1} if pruner in ("snip", "grasp") else {}
    spec = trial(method="prune", prune={"pruner": {"kind": pruner, **fields, "rounds": 2}})
    found = run(spec, tmp_path)[-1].point
    assert found is not None
    left = states(spec, tmp_path)
    start, cut = left["init"], left["prune"]
    assert cut.nonzero() == cut.size() - round(0.7 * cut.size())
    assert all(torch.equal(cut.params[name][mask], start.params[name][mask]) for name, mask in cut.masks.items())


def followed(**recipe: Any) -> TrialSpec:
    fields = {"epochs": 3, "method": "prune", "reference": True, **recipe}
    spec = trial(**fields)
    metric = {"kind": "dynamics", "epochs": [1, 2, 9], "examples": 40, "attack": {"kind": "pgd", "steps": 1}}
    return TrialSpec.model_validate({**plain(spec), "protocol": {**plain(spec.protocol), "metrics": [metric]}})


def test_the_reference_is_trained_once_for_all_and_its_training_compared_with(tmp_path: Path) -> None:
    spec = followed()
    points = [report.point for report in run(spec, tmp_path) if report.point is not None]
    assert [point.stands_for for point in points] == [{"sparsity": 0.0}, {}]
    assert set(points[0].metrics.values()) == {None}
    stages = Stages(Storage(str(tmp_path)))
    data = tensors.load(spec.data, CPU)
    dense, sparse = (step for step in keyed_phases(spec, data.fingerprint) if isinstance(step.phase, Train))
    assert dense.phase.stored_epochs == sparse.phase.stored_epochs == (1, 2)
    net = models.build(spec.model, shape=data.shape, classes=data.classes, mean=data.mean, std=data.std, seed=0).eval()
    x = data.validation.pixels(slice(40))
    squares = []
    for epoch in (1, 2, None):
        one, other = (stages.load(step.key, epoch) for step in (dense, sparse))
        assert one is not None
        assert other is not None
        with torch.no_grad():
            squares.append((one.into(net)(x) - other.into(net)(x)).square().mean())
    assert points[1].metrics["dynamics_logits"] == pytest.approx(float(torch.stack(squares).mean()), rel=1e-4)
    robust = points[1].metrics["dynamics_robust"]
    assert robust is not None
    assert 0 <= robust <= 1
    # The dense network alone is the same trial's beginning, and the next sparsity trains it no more.
    assert [step.key for step in keyed_phases(followed(sparsity=0.0), data.fingerprint)][1] == dense.key
    more = [report for report in run(followed(sparsity=0.5), tmp_path) if report.epoch is not None]
    assert len(more) == 3


def test_what_was_trained_without_being_followed_is_trained_again_to_the_same_bits(tmp_path: Path) -> None:
    spec = followed()
    unfollowed = spec.model_copy(update={"protocol": spec.protocol.model_copy(update={"metrics": ()})})
    wanted = [r.point.weights_sha256 for r in run(unfollowed, tmp_path) if r.point is not None]
    reports = run(spec, tmp_path)
    assert [r.point.weights_sha256 for r in reports if r.point is not None] == wanted
    assert sum(r.epoch is not None for r in reports) == 6
    assert sum(r.epoch is not None for r in run(spec, tmp_path)) == 0
