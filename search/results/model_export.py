"""Write the network of a point to a directory: its weights, and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.results.exporters.output import OutputError
from search.store.consistency import unproven
from search.store.default_storage import arguments
from trainables.core.errors import SpecError, StageDamaged, StorageError
from trainables.core.locations import without_parents
from trainables.core.registry import nearest
from trainables.metrics import wilson
from trainables.store.records import Outcome, Point, TrialRecord, point_id

if TYPE_CHECKING:
    from search.results.study import Study
    from trainables.store.stages import Stages
    from trainables.store.state import State


def find(study: Study, point: str) -> tuple[TrialRecord, Outcome, Point]:
    """Return a measured point of a complete trial, by its id; `17.2`, as ids were once written, is `t17.2`.

    Raises:
        SpecError: there is no such point.
    """
    found = {
        point_id(trial.number, measured.measure): (trial, outcome, measured)
        for trial, outcome in study.records.trials()
        if outcome is not None and outcome.state == "complete"
        for measured in outcome.points
    }
    wanted = point if point.startswith("t") else f"t{point}"
    if wanted not in found:
        trial = wanted.partition(".")[0]
        same = [known for known in found if known.partition(".")[0] == trial]
        hint = f" (trial {trial[1:]} has: {', '.join(same)})" if same else nearest(wanted, found)
        raise SpecError(
            f"'{point[:40]}' is not a point of {study.name}{hint}; "
            f"`robustsearch front {arguments(study.records.storage)}` lists them"
        )
    return found[wanted]


def save(study: Study, point: str, output: Path, *, shrink: bool = False) -> Path:
    """Write the network of a point to the directory `output`, with `shrink` without its dead filters.

    Raises:
        SpecError: there is no such point, it was measured with noise, or it cannot shrink.
        OutputError: the output is inside the study's directory.
        StorageError: the stored weights are missing or damaged, or the output is not an empty directory.
    """
    from trainables.export import saved
    from trainables.models.noise import Noise
    from trainables.store.stages import Stages

    trial, outcome, measured = find(study, point)
    output = without_parents(output)
    home = study.records.storage.local
    if home is not None and output.resolve().is_relative_to(home.resolve()):
        raise OutputError(f"{output} is inside the study's directory; choose another --output")
    if reason := unproven(study.spec, study.records.fingerprint.data_hash, trial, outcome):
        raise StorageError(f"{point} is not what its trial measured: trial {trial.number}: {reason}")
    state = _checked(Stages(study.records.storage), point, measured)
    if trial.spec["protocol"].get("noise") and Noise.of(state) is not None:
        raise SpecError(
            f"{point} was measured with noise on its weights (protocol.noise), which a saved network does not have"
        )
    made_with = study.records.fingerprint
    shapes: dict[str, Any] = {"shape": list(made_with.shape), "classes": made_with.classes}
    if made_with.class_names:
        shapes["class_names"] = list(made_with.class_names)
    return saved.save(output, state, {**card(study, trial, outcome, measured), **shapes}, shrink=shrink)


def _checked(stages: Stages, point: str, measured: Point) -> State:
    """Return the stored network of a point.

    Raises:
        StorageError: its weights are missing or damaged, or others than those that were measured.
    """
    try:
        state = stages.read(measured.stage)
    except StageDamaged as error:
        raise StorageError(f"the weights of {point} are missing or damaged: {error}") from None
    if state.weights_sha256() != measured.weights_sha256:
        raise StorageError(
            f"the weights of {point} are missing or damaged: stage {measured.stage} holds others than those measured "
            "(their sha256 differs)"
        )
    if (state.nonzero(), state.size()) != (measured.nonzero, measured.prunable):
        raise StorageError(
            f"{point} is damaged: {state.nonzero()} of {state.size()} weights of its network are not 0, but its "
            f"record says {measured.nonzero} of {measured.prunable}"
        )
    return state


def card(study: Study, trial: TrialRecord, outcome: Outcome, point: Point) -> dict[str, Any]:
    """Return the card from the records; `trainables.export.saved` adds what it counts in the weights."""
    return {
        "point": point_id(trial.number, point.measure),
        "study": study.name,
        "trial": trial.number,
        "seed": trial.seed,
        "params": trial.params,
        "model": trial.spec["model"],
        "recipe": trial.spec["recipe"],
        "plugins": trial.spec.get("plugins", []),
        "data": {**trial.spec["data"], "root": None, "sha256": study.records.fingerprint.data_hash},
        "protocol": {
            "attack": trial.spec["protocol"]["attack"],
            "label": point.attack,
            "norm": point.norm,
            "eps": point.eps,
            "eps_text": point.eps_text,
            "examples": point.examples,
            "split": point.split,
            "tier": point.tier,
        },
        "robust_accuracy": _accuracy(point.robust_correct, point.examples),
        "clean_accuracy": _accuracy(point.clean_correct, point.examples),
        "status": point.status,
        "flags": list(point.flags),
        "stage": point.stage,
        "device": point.device,
        "code_version": point.code_version,
        "measured": point.finished,
        "trained_with": outcome.versions,
    }


def _accuracy(correct: int, examples: int) -> dict[str, float | int]:
    """Return an accuracy with its 95 % Wilson interval."""
    low, high = wilson(correct, examples)
    return {"value": correct / examples, "low": low, "high": high, "correct": correct, "examples": examples}
