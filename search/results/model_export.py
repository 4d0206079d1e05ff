"""Write the network of a point to a directory: its weights, and a model card."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.results.exporters.output import OutputError
from search.store.consistency import unproven
from search.store.default_storage import arguments
from trainables.core.errors import SpecError, StageDamaged, StorageError
from trainables.core.locations import without_parents
from trainables.core.registry import nearest
from trainables.core.rng import derive
from trainables.metrics import CLEAN_ACCURACY, ROBUST_ACCURACY, wilson
from trainables.store.records import Outcome, Point, TrialRecord, point_id

if TYPE_CHECKING:
    from search.results.confirmed import ConfirmedRow
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
            f"`robustsearch export {arguments(study.records.storage)} --what points` lists them"
        )
    return found[wanted]


@dataclass(frozen=True)
class Written:
    """The directory that a network was written to, and notes about what is not in it, or is not as it was measured."""

    path: Path
    notes: tuple[str, ...]


def save(
    study: Study,
    point: str,
    output: Path,
    *,
    shrink: bool = False,
    onnx: bool = False,
    run_plugins: bool = False,
) -> Written:
    """Write the network of a point to the directory `output`, with `shrink` without its dead filters.

    Beside the weights and the card stand what runs and measures it without this project: the network as a program, the
    examples with their verdicts, a README, and with `onnx` the network in that format. The model of a plug-in has a
    program with `run_plugins`, `shrink` or `onnx` alone.

    Raises:
        SpecError: there is no such point, it was measured with noise, or it cannot shrink, or not be exported to ONNX.
        OutputError: the output is inside the study's directory.
        StorageError: the stored weights are missing or damaged, or the output is not an empty directory.
    """
    from trainables.export import saved
    from trainables.export.portable import portable

    output = writable(study, output)
    saved.check_target(output)
    trial, outcome, measured, state = network_of(study, point)
    confirmed = next((row for row in study.confirmed() if row.weights_sha256 == measured.weights_sha256), None)
    full = {
        **card(study, trial, outcome, measured),
        **shapes(study),
        "confirmed": _confirmed(confirmed) if confirmed else None,
    }
    beside = portable(
        output,
        state,
        full,
        data=trial.spec["data"],
        verdicts=measured.verdicts,
        confirmed=(confirmed.examples, _clean(confirmed), confirmed.verdicts) if confirmed else None,
        shrink=shrink,
        to_onnx=onnx,
        run_plugins=run_plugins,
    )
    path = saved.save(output, state, {**full, **beside.card}, shrink=shrink, files=beside.files)
    return Written(path, tuple(beside.notes))


def writable(study: Study, output: Path) -> Path:
    """Return a directory to write a network to.

    Raises:
        OutputError: it is inside the study's directory.
    """
    output = without_parents(output)
    home = study.records.storage.local
    if home is not None and output.resolve().is_relative_to(home.resolve()):
        raise OutputError(f"{output} is inside the study's directory; choose another --output")
    return output


def network_of(study: Study, point: str) -> tuple[TrialRecord, Outcome, Point, State]:
    """Return a point and its stored network, as it was measured.

    Raises:
        SpecError: there is no such point, or it was measured with noise.
        StorageError: the stored weights are missing or damaged.
    """
    from trainables.models.noise import Noise
    from trainables.store.stages import Stages

    trial, outcome, measured = find(study, point)
    if reason := unproven(study.spec, study.records.fingerprint.data_hash, trial, outcome):
        raise StorageError(f"{point} is not what its trial measured: trial {trial.number}: {reason}")
    state = _checked(Stages(study.records.storage), point, measured)
    if trial.spec["protocol"].get("noise") and Noise.of(state) is not None:
        raise SpecError(
            f"{point} was measured with noise on its weights (protocol.noise), which a saved network does not have"
        )
    return trial, outcome, measured, state


def shapes(study: Study) -> dict[str, Any]:
    """Return what a network takes and gives, for its card."""
    made_with = study.records.fingerprint
    sizes: dict[str, Any] = {"shape": list(made_with.shape), "classes": made_with.classes}
    return {**sizes, "class_names": list(made_with.class_names)} if made_with.class_names else sizes


def _confirmed(row: ConfirmedRow) -> dict[str, Any]:
    """Return what was confirmed of a network, for its card; the verdicts are in a file of their own."""
    return {
        "split": row.split,
        "examples": row.examples,
        "complete": row.complete,
        "attack": row.attack,
        "norm": row.norm,
        "eps": row.eps,
        "eps_text": row.eps_text,
        "seeds": row.seeds,
        "drop": row.drop,
        **{name: _interval(row, name) for name in (ROBUST_ACCURACY, CLEAN_ACCURACY)},
        "attacks": [asdict(result) for result in row.attacks],
        "curve": [{"eps": at.eps, **asdict(at.accuracy)} for at in row.curve],
        "corruptions": [asdict(corrupted) for corrupted in row.corruptions],
        "order": {"of": "the test files", "by": "numpy.random.default_rng(seed).permutation", "seed": derive("test")},
        "device": row.device,
        "code_version": row.code_version,
        "measured": row.finished,
    }


def _interval(row: ConfirmedRow, name: str) -> dict[str, Any]:
    bounds = {bound or "value": getattr(row, f"{name}_{bound}".removesuffix("_")) for bound in ("", "low", "high")}
    mean, sd = getattr(row, f"{name}_mean"), getattr(row, f"{name}_sd")
    return {**bounds, "examples": row.examples, "mean_over_seeds": mean, "sd_over_seeds": sd}


def _clean(row: ConfirmedRow) -> str:
    return next(each.clean_verdicts for each in row.replicates if each.weights_sha256 == row.weights_sha256)


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
            **trial.spec["protocol"],
            "label": point.attack,
            "norm": point.norm,
            "eps": point.eps,
            "eps_text": point.eps_text,
            "examples": point.examples,
            "split": point.split,
            "tier": point.tier,
        },
        "input": {"low": 0.0, "high": 1.0, "layout": "NCHW", "dtype": "float32", "preprocessing": "in the network"},
        "robust_accuracy": _accuracy(point.robust_correct, point.examples),
        "clean_accuracy": _accuracy(point.clean_correct, point.examples),
        "status": point.status,
        "flags": list(point.flags),
        "weights_outside": point.weights_outside,
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
