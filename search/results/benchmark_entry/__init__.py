"""What the adversarial pruning benchmark asks of an entry, for a point of a study."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search.results import model_export
from search.results.benchmark_entry import taxonomy
from search.results.benchmark_entry.issue import MODELS, issue
from search.results.references.match import structures_of
from search.results.references.piras2024 import PIRAS2024
from trainables.core.errors import SpecError, StorageError
from trainables.core.versions import versions
from trainables.metrics import wilson
from trainables.recipes.trial import TrialSpec

if TYPE_CHECKING:
    from torch import Tensor

    from search.results.study import Study
    from trainables.store.records import Point, TrialRecord
    from trainables.worker.benchmark_entry import Entry

NETWORKS = {"resnet18": ("R18", "base_resnet18"), "vgg16": ("V16", "base_vgg16")}
DATA = {"cifar10": "CIFAR10", "svhn": "SVHN"}
BOARDS = {"unstructured": ("US", (90, 95, 99)), "filter": ("S", (50, 75, 90))}
NEAR = 0.5
"""How far a sparsity may be from that of a board. Units: percentage points."""
AP_KEY = re.compile(r"[A-Za-z0-9-]+_[A-Za-z0-9-]+")


@dataclass(frozen=True)
class Written:
    """What was written where: the key of the model, its accuracies, and whether it is an entry or a quick look."""

    path: Path
    key: str
    measured: dict[str, Any]
    quick: bool


def model_key(study: Study, trial: TrialRecord, point: Point, ap_key: str) -> str:
    """Return the benchmark's key of a model, such as `HARP_Zhao2023Holistic_R18_CIFAR10_US_90`.

    Raises:
        SpecError: the benchmark has no such data set, network, structure or sparsity.
    """
    if not AP_KEY.fullmatch(ap_key):
        raise SpecError(
            f"--ap-key is {ap_key[:60]!r}; the benchmark's keys are of two parts, Method_AuthorYearWord, such as "
            "HARP_Zhao2023Holistic"
        )
    data, model = trial.spec["data"], str(trial.spec["model"].get("kind"))
    known = "the adversarial pruning benchmark has"
    if data["kind"] not in DATA:
        raise SpecError(f"the study is on {data['kind']}; {known} CIFAR-10 (cifar10) and SVHN (svhn)")
    if data.get("select"):
        raise SpecError(f"the study uses {len(data['select'])} classes of {data['kind']}; {known} all")
    if model not in NETWORKS:
        raise SpecError(f"the network is {model}; {known} ResNet-18 (resnet18) and VGG-16 (vgg16)")
    structures = structures_of(trial)
    if len(structures) != 1 or not structures <= BOARDS.keys():
        raise SpecError(f"the trial prunes {', '.join(sorted(structures))}; {known} unstructured and filter")
    board, sparsities = BOARDS[next(iter(structures))]
    nearest = min(sparsities, key=lambda each: abs(each - 100 * point.sparsity))
    if abs(nearest - 100 * point.sparsity) > NEAR:
        listed = ", ".join(map(str, sparsities))
        raise SpecError(
            f"the point has a sparsity of {100 * point.sparsity:.2f} %; {known} {listed} % for {board} (within {NEAR} "
            "points); train one with recipe.sparsity set to such a value"
        )
    return f"{ap_key}_{NETWORKS[model][0]}_{DATA[data['kind']]}_{board}_{nearest}"


def write(
    study: Study,
    point: str,
    output: Path,
    *,
    ap_key: str,
    link: str,
    examples: int | None,
    report: Callable[[str], None],
) -> Written:
    """Measure a point by the benchmark's protocol and write its entry; with `examples` a quick look that is none.

    Raises:
        SpecError: there is no such point, or the benchmark has no place for it.
        DataError: the test files are missing.
        OutputError: the output is inside the study's directory.
        StorageError: the stored weights are missing or damaged, or the output is not an empty directory.
    """
    trial, _, found = model_export.find(study, point)
    key = model_key(study, trial, found, ap_key)
    output = model_export.writable(study, output)
    from trainables.export import saved
    from trainables.worker import benchmark_entry as protocol

    saved.check_target(output)
    trial, outcome, measured, state = model_export.network_of(study, point)
    card = {**model_export.card(study, trial, outcome, measured), **model_export.shapes(study)}
    entry, checkpoint = protocol.measure(state, card, trial.spec["data"], examples, report)
    facts = _facts(key, study.name, str(card["point"]), measured, entry)
    notes = _notes(trial, measured, {**state.params, **state.buffers}, entry)
    described = taxonomy.entry(TrialSpec.model_validate(trial.spec).recipe.phases(), ap_key, link)
    quick = examples is not None
    distances = "quick-look" if quick else key
    files = {
        f"{key}.pt": checkpoint,
        f"{distances}.pickle": pickle.dumps(list(entry.distances), protocol=4),
        f"{distances}.npy": _npy(entry.distances),
        "entry.json": (json.dumps(described, indent=2, ensure_ascii=False) + "\n").encode(),
        "measured.json": (json.dumps({**facts, "notes": notes}, indent=1, allow_nan=False) + "\n").encode(),
        "quick-look.md" if quick else "issue.md": issue(key, described, facts, notes, quick=quick).encode(),
    }
    try:
        saved.write_directory(output.absolute(), files)
    except OSError as error:
        raise StorageError(f"cannot write the entry to {output}: {error}") from error
    return Written(output, key, facts, quick)


def _npy(distances: Sequence[float]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(distances), allow_pickle=False)
    return file.getvalue()


def _facts(key: str, study: str, point: str, measured: Point, entry: Entry) -> dict[str, Any]:
    """Return what was measured, and how."""
    shares = {"clean": entry.clean_correct, "autoattack": entry.robust_correct}
    return {
        "key": key,
        "study": study,
        "point": point,
        "sparsity": measured.sparsity,
        "nonzero": measured.nonzero,
        "prunable": measured.prunable,
        "weights_sha256": measured.weights_sha256,
        "entry": entry.examples == PIRAS2024.examples,
        "examples": entry.examples,
        **{name: correct / entry.examples for name, correct in shares.items()},
        **{f"{name}_interval": list(wilson(correct, entry.examples)) for name, correct in shares.items()},
        "eps": PIRAS2024.eps,
        "attack": entry.attack,
        "fmn": entry.beyond / len(entry.distances),
        "fmn_interval": list(wilson(entry.beyond, len(entry.distances))),
        "fmn_examples": len(entry.distances),
        "fmn_first_example": entry.first_distance,
        "fmn_eps": 8 / 255,
        "fmn_attack": entry.nearest,
        "robust_verdicts": entry.robust_verdicts,
        "images_sha256": entry.images_sha256,
        "device": entry.device,
        "seconds": entry.seconds,
        "versions": versions(),
    }


def _notes(trial: TrialRecord, measured: Point, tensors: Mapping[str, Tensor], entry: Entry) -> list[str]:
    """Return what a reader of the entry must know: normalisation, loading, attacks, sparsity, what is still to do."""
    base = NETWORKS[trial.spec["model"]["kind"]][1]
    mean, std = (tensors.get(f"normalise.{name}") for name in ("mean", "std"))
    # Folding it into the first convolution would change the zeros of its padding.
    normalised = "It needs no normalisation: inputs are pixels in [0, 1]."
    if mean is not None and std is not None:
        values = ["(" + ", ".join(f"{value:.6g}" for value in t.flatten().tolist()) + ")" for t in (mean, std)]
        normalised = (
            f"It needs normalisation: (x - mean) / std of pixels x in [0, 1], mean = {values[0]}, std = {values[1]}; "
            "the accuracies were measured with it, as part of the model."
        )
    tuned = ", ".join(f"{size:g}" for size in entry.nearest["step_sizes"])
    few = entry.attack["steps"] != 100 or entry.attack["queries"] != 5000
    images = range(entry.first_distance, entry.first_distance + len(entry.distances))
    return [
        f"`state_dict` of the checkpoint loads into `{base}` with `strict=True`; masks are multiplied in.",
        normalised,
        f"AutoAttack: version standard, l_inf, eps = {PIRAS2024.eps_text}, the first {entry.examples:,} test images in "
        f"the order of the files, batches of {entry.attack['batch']}{', shortened' if few else ''}; package "
        f"pyautoattack {_version('pyautoattack')}.",
        f"HO-FMN: in its place FMN, {entry.nearest['steps']} steps, margin loss, the nearest result over first steps "
        f"of length {tuned}, not tuned by Bayesian optimisation; images {images.start} to {images.stop - 1}, accuracy "
        "at 8/255. An infinite distance means that nothing was found.",
        f"Sparsity: {100 * measured.sparsity:.2f} % of {measured.prunable:,} prunable weights.",
        "The JSON entry was derived from the recipe: check it, and add the link to your paper.",
        f"The benchmark asks for at least {MODELS} checkpoints, one for each sparsity, and for public links to them.",
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
