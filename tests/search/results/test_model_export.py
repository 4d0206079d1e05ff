"""Taking a point's network away: what is written is what was measured, and says what it is."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from search.results.study import Study
from search.store.records import Records
from search.store.study_yaml import Fingerprint
from search.study.spec import StudySpec
from tests.search import confirmations
from tests.search.command import run
from tests.search.factories import measured, outcome, params, point, study_spec, trial
from trainables import models
from trainables.core.errors import DataError
from trainables.data import cache
from trainables.data.base import Data
from trainables.data.digits import Digits
from trainables.data.tensors import load
from trainables.export import saved
from trainables.measure import evaluate
from trainables.method.phases import Measure
from trainables.models.noise import Noise
from trainables.recipes.trial import keyed_phases
from trainables.store import paths
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Storage


@pytest.fixture
def studied(tmp_path: Path) -> tuple[Path, State]:
    return stored(tmp_path, study_spec())


def stored(
    tmp_path: Path, spec: StudySpec, strength: float = 0.0, dead: int = 0, *, trained: bool = False
) -> tuple[Path, State]:
    """Store a study of one complete trial with its pruned network, that may have noise, and return that network."""
    place = Storage(str(tmp_path / "runs" / "synthetic"))
    found = cache.fingerprint(spec.data)
    sizes = {"shape": found.shape, "classes": found.classes, "class_names": tuple("ABCDEFGHIJ"[: found.classes])}
    records = Records.create(place, spec, Fingerprint(data_hash=found.sha256, **sizes))
    network = models.build(spec.model, shape=found.shape, classes=found.classes, mean=[0.3], std=[0.4], seed=3)
    if trained:
        fit(network, spec)
    state = State.of(network)
    weight = state.params[next(iter(state.masks))]
    state.masks[next(iter(state.masks))][:] = weight > 0
    if dead:
        name = next(iter(state.masks))
        state.masks[name][:dead] = False
        state.params[name.removesuffix("weight") + "bias"][:dead] = 0
    state = state.masked()
    if strength:
        alpha = {name: torch.full((1,), strength) for name in state.prunable()}
        state = replace(state, extras=Noise(alpha, masked=True, nonzero=False).tensors())
    kept = state.nonzero() / state.size()
    counted = {"sparsity": 1 - kept, "prunable": state.size(), **verdicts(network, state, spec)}
    chain = keyed_phases(spec.trial(params(0)), found.sha256)
    dense, pruned = ({"key": s.key, "stage": s.parent} for s in chain if isinstance(s.phase, Measure))
    real = point(1, **counted, **pruned, weights_sha256=state.weights_sha256(), flags=("warned",))
    Stages(place).save(real.stage, state, epochs=5, seconds=1.0, study="synthetic", trial=0)
    records.issue(trial(0, spec, keys=[step.key for step in chain]))
    records.write_outcome(
        outcome(0, (measured(0, params(0))[0].model_copy(update={**dense, "attack": real.attack}), real))
    )
    return tmp_path, state


def fit(network: torch.nn.Module, spec: StudySpec) -> None:
    """Train a network for a moment, in eval mode, with noise that makes it a little robust."""
    train = load(spec.data).train
    x, y = train.pixels(), train.y
    generator = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(60):
        adam.zero_grad()
        noisy = x + 0.2 * (2 * torch.rand(x.shape, generator=generator) - 1)
        torch.nn.functional.cross_entropy(network(noisy), y).backward()
        adam.step()


def verdicts(network: torch.nn.Module, state: State, spec: StudySpec) -> dict[str, Any]:
    """Return what the study's protocol measures of a network, as fields of its point; noise is off."""
    protocol = spec.protocol.model_copy(update={"noise": False})
    found = evaluate.measure(network, state, protocol, load(spec.data).validation, device="cpu", checked=False)
    packed = evaluate.pack_verdicts(found.robust_correct)
    shares = {"robust_accuracy": found.robust_correct.mean(), "clean_accuracy": found.clean_correct.mean()}
    return {
        **{name: float(share) for name, share in shares.items()},
        "verdicts": packed,
        "attack": spec.protocol.attack.label,
    }


def take(place: Path, which: str, output: str = "taken", *more: str) -> tuple[int, str, str]:
    result = run("model", "synthetic", which, "--output", place / output, "--storage", place / "runs", *more)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
def test_the_network_is_the_one_that_was_measured(studied: tuple[Path, State]) -> None:
    place, state = studied
    code, _, error = take(place, "t0.1")
    assert (code, error) == (0, f"wrote {place / 'taken'}\n")
    network = saved.load(place / "taken")
    spec = study_spec()
    original = models.build(spec.model, shape=(1, 8, 8), classes=10, mean=[0.0], std=[1.0], seed=0)
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(images), state.into(original).eval()(images))


def test_the_card_says_what_the_network_is(studied: tuple[Path, State]) -> None:
    place, state = studied
    code, out, _ = take(place, "t0.1", "taken", "--json")
    assert (code, json.loads(out)) == (0, {"output": str(place / "taken")})
    card = json.loads((place / "taken" / saved.CARD).read_text())
    study = Study.open(str(place / "runs" / "synthetic"))
    row = study.points()[1]
    assert (card["study"], card["trial"], card["point"], card["seed"]) == ("synthetic", 0, "t0.1", 0)
    assert card["params"] == params(0)
    assert card["prunable"] == state.size() < card["parameters"] == sum(p.numel() for p in state.params.values())
    assert card["sparsity"] == pytest.approx(1 - state.nonzero() / state.size(), abs=1e-12)
    assert card["sparsity"] == pytest.approx(row.sparsity, abs=1e-4)
    assert card["weights_sha256"] == row.weights_sha256
    assert card["robust_accuracy"]["value"] == row.robust_accuracy
    assert card["robust_accuracy"]["low"] == row.robust_accuracy_low
    assert card["clean_accuracy"]["high"] == row.clean_accuracy_high
    assert card["protocol"]["eps"] == 0.1
    assert card["protocol"]["split"] == "validation"
    assert card["protocol"]["attack"]["steps"] == 20
    assert card["data"]["sha256"] == study.records.fingerprint.data_hash
    assert card["data"]["root"] is None
    assert card["class_names"] == list("ABCDEFGHIJ")
    assert card["flags"] == ["warned"]
    assert card["trained_with"] == {"torch": "2.11.0"}


def test_a_network_that_was_measured_with_noise_is_not_written_without(tmp_path: Path) -> None:
    place, _ = stored(tmp_path / "off", study_spec(), strength=0.5)
    assert take(place, "t0.1")[0] == 0
    assert json.loads((place / "taken" / saved.CARD).read_text())["noise"] == pytest.approx(0.5)
    place, _ = stored(tmp_path / "on", study_spec(protocol={"eps": 0.1, "noise": True}), strength=0.5)
    code, _, error = take(place, "t0.1")
    assert code == 2
    assert "measured with noise" in error
    assert not (place / "taken").exists()


@pytest.mark.slow
def test_a_network_is_written_without_its_dead_filters_if_it_has_any(tmp_path: Path) -> None:
    place, state = stored(tmp_path, study_spec())
    code, out, error = take(place, "t0.1", "taken", "--shrink", "--json")
    assert (code, json.loads(out)["error"]["exit_code"]) == (2, 2)
    assert "no filter of this network is dead" in error
    assert not (place / "taken").exists()
    place, state = stored(tmp_path / "filters", study_spec(), dead=20)
    code, _, error = take(place, "t0.1", "small", "--shrink")
    assert (code, error) == (0, f"wrote {place / 'small'}\n")
    assert take(place, "t0.1", "whole")[0] == 0
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    small = saved.load(place / "small")
    with torch.no_grad():
        torch.testing.assert_close(small(images), saved.load(place / "whole")(images))
    first = next(iter(state.masks))
    card = json.loads((place / "small" / saved.CARD).read_text())
    assert card["shrunk"]["layers"][first] == [len(state.masks[first]) - 20, 64]
    assert card["shrunk"]["parameters"] == sum(p.numel() for p in small.parameters())
    assert card["robust_accuracy"]["value"] == Study.open(str(place / "runs" / "synthetic")).points()[1].robust_accuracy


@pytest.mark.parametrize(
    ("which", "hint"),
    [
        ("t0.7", "trial 0 has: t0.0, t0.1"),
        ("0.7", "trial 0 has: t0.0, t0.1"),
        ("0.10", "trial 0 has: t0.0, t0.1"),
        ("t9.1", "t0.1"),
        ("best", "--what points` lists them"),
    ],
)
def test_an_unknown_point_is_answered_with_those_near(which: str, hint: str, studied: tuple[Path, State]) -> None:
    code, _, error = take(studied[0], which)
    assert code == 2
    assert hint in error
    assert not (studied[0] / "taken").exists()


def test_an_id_of_the_older_form_is_the_same_point(studied: tuple[Path, State]) -> None:
    place, _ = studied
    assert take(place, "0.1")[0] == 0
    assert json.loads((place / "taken" / saved.CARD).read_text())["point"] == "t0.1"


def test_lost_weights_and_damaged_ones_are_not_handed_out(studied: tuple[Path, State]) -> None:
    place, _ = studied
    assert take(place, "t0.0")[0] == 5
    (state,) = (place / "runs" / "synthetic" / paths.STAGES).glob(f"*/{paths.STATE}")
    folder = state.parent
    weights = folder / paths.STATE
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, _, error = take(place, "t0.1")
    assert code == 5
    assert "missing or damaged" in error


@pytest.mark.parametrize("output", ["full", "file", "runs/synthetic/here", "runs/synthetic"])
def test_nothing_is_written_over(output: str, studied: tuple[Path, State]) -> None:
    place, _ = studied
    (place / "full").mkdir()
    (place / "full" / "kept").write_text("")
    (place / "file").write_text("")
    before = sorted(place.rglob("*"))
    code, _, error = take(place, "t0.1", output)
    assert code in (2, 5)
    assert str(place / output) in error
    assert sorted(place.rglob("*")) == before


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("search", "trainables"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
"""


def outside(folder: Path, spec: StudySpec) -> str:
    """Run the code of an exported network's README where this project is not installed; return what it prints."""
    if not spec.data.arrays_code():  # Otherwise the code makes the images itself.
        (images, labels), _ = cache.training_arrays(spec.data)
        np.save(folder / "images.npy", images)
        np.save(folder / "labels.npy", labels)
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)[:2]
    script = folder / "again.py"
    script.write_text("\n".join((BLOCKED, *code)))
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shrink", "attack", "tolerance"),
    [
        (False, {"kind": "pgd", "steps": 20}, 3),
        (True, {"kind": "pgd", "steps": 10, "loss": "margin", "restarts": 2}, 3),
        (False, {"kind": "worst", "attacks": [{"kind": "apgd-ce", "steps": 10}, {"kind": "apgd-t", "steps": 10}]}, 7),
    ],
)
def test_the_card_suffices_to_measure_again_with_pytorch_alone(
    shrink: bool, attack: dict[str, Any], tolerance: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shrink:  # As if the images were in files.
        monkeypatch.setattr(Digits, "arrays_code", Data.arrays_code)
    spec = study_spec(protocol={"eps": 0.1, "attack": attack})
    place, _ = stored(tmp_path, spec, dead=20, trained=True)
    assert take(place, "t0.1", "taken", *(["--shrink"] if shrink else []))[0] == 0
    record = Study.open(str(place / "runs" / "synthetic")).points()[1].measured
    assert 0.3 < record.robust_accuracy < record.clean_accuracy - 0.02
    clean, robust = outside(place / "taken", spec).splitlines()
    assert clean == f"clean {record.clean_correct} of 360 as in examples.csv: True"
    found = int(robust.removeprefix("robust ").removesuffix(" of 360"))
    assert abs(found - record.robust_correct) <= tolerance


def test_the_examples_are_listed_with_their_verdicts_and_every_file_has_its_hash(studied: tuple[Path, State]) -> None:
    place, _ = studied
    assert take(place, "t0.1", "taken")[0] == 0
    taken = place / "taken"
    card = json.loads((taken / saved.CARD).read_text())
    assert {path.name for path in taken.iterdir()} == {*card["files"], "model.json"}
    assert set(card["files"]) == {"model.safetensors", "model.pt2", "examples.csv", "README.md"}
    for name, digest in card["files"].items():
        assert hashlib.sha256((taken / name).read_bytes()).hexdigest() == digest
    study = Study.open(str(place / "runs" / "synthetic"))
    record, data = study.points()[1].measured, load(study.spec.data)
    rows = [list(map(int, line.split(","))) for line in (taken / "examples.csv").read_text().splitlines()[1:]]
    (_, labels), _ = cache.training_arrays(study.spec.data)
    assert [row[1] for row in rows] == data.validation.y.tolist() == [labels[row[0]] for row in rows]
    assert sum(row[2] for row in rows) == record.clean_correct
    assert [row[3] for row in rows] == evaluate.unpack_verdicts(record.verdicts, 360).astype(int).tolist()
    assert card["examples"]["split_hash"] == data.split_hash
    assert card["protocol"]["seed"] == study.spec.protocol.seed
    assert card["confirmed"] is None


def test_what_was_confirmed_is_in_the_card(tmp_path: Path) -> None:
    place, _ = stored(tmp_path, study_spec())
    folder = place / "runs" / "synthetic"
    study = Study.open(str(folder))
    confirmations.confirm(study.records, points=[study.points()[1]])
    (row,) = Study.open(str(folder)).confirmed()
    assert take(place, "t0.1")[0] == 0
    card = json.loads((place / "taken" / saved.CARD).read_text())["confirmed"]
    assert (card["examples"], card["split"]) == (row.examples, "test")
    assert card["robust_accuracy"]["value"] == row.robust_accuracy
    assert [attack["label"] for attack in card["attacks"]] == [attack.label for attack in row.attacks]
    rows = (place / "taken" / "confirmed.csv").read_text().splitlines()[1:]
    assert sum(int(line.split(",")[2]) for line in rows) == row.replicates[0].robust.correct
    assert sum(int(line.split(",")[1]) for line in rows) == row.replicates[0].clean.correct


@pytest.mark.slow
def test_onnx_is_written_and_checked_on_validation_images(tmp_path: Path) -> None:
    place, _ = stored(tmp_path, study_spec(), trained=True)
    code, _, error = take(place, "t0.1", "taken", "--onnx")
    assert (code, error) == (0, f"wrote {place / 'taken'}\n")
    card = json.loads((place / "taken" / saved.CARD).read_text())
    assert card["onnx"]["largest_difference"] <= card["onnx"]["tolerance"] == 1e-4
    assert card["onnx"]["batches"] == [1, 2, 7, 64]
    assert "model.onnx" in card["files"]
    session = onnxruntime.InferenceSession(place / "taken" / "model.onnx")
    images = load(study_spec().data).validation.pixels(slice(100, 103))
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(logits), saved.load(place / "taken")(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_nothing_is_written_where_onnx_is_refused(studied: tuple[Path, State], monkeypatch: pytest.MonkeyPatch) -> None:
    place, _ = studied
    monkeypatch.setattr("trainables.export.onnx.TOLERANCE", 0.0)
    code, out, error = take(place, "t0.1", "taken", "--onnx", "--json")
    assert code == 2
    assert "the network in ONNX has other logits" in json.loads(out)["error"]["message"]
    assert error.count("\n") == 1
    assert not (place / "taken").exists()


def test_where_the_data_set_is_missing_a_note_says_what_is_left_out(
    studied: tuple[Path, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, _ = studied

    def missing(spec: object) -> None:
        raise DataError("digits: no files here")

    monkeypatch.setattr("trainables.export.examples.load", missing)
    code, out, error = take(place, "t0.1", "taken", "--json")
    assert code == 0
    assert json.loads(out)["notes"] == ["left out examples.csv: digits: no files here"]
    assert error == "left out examples.csv: digits: no files here\n"
    card = json.loads((place / "taken" / saved.CARD).read_text())
    assert card["examples"] == {"missing": "digits: no files here"}
    assert "Measure again" not in (place / "taken" / "README.md").read_text()
    code, _, error = take(place, "t0.1", "other", "--onnx")
    assert code == 2
    assert "digits: no files here" in error
    assert not (place / "other").exists()
