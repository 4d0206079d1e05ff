"""Taking a point's network away: what is written is what was measured, and says what it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search.results.study import Study
from search.store.records import Records
from search.store.study_yaml import Fingerprint
from search.study.spec import StudySpec
from tests.search.command import run
from tests.search.factories import measured, outcome, params, point, study_spec, trial
from trainables import models
from trainables.data import cache
from trainables.export import saved
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


def stored(tmp_path: Path, spec: StudySpec, strength: float = 0.0, dead: int = 0) -> tuple[Path, State]:
    """Store a study of one complete trial with its pruned network, that may have noise, and return that network."""
    place = Storage(str(tmp_path / "runs" / "synthetic"))
    found = cache.fingerprint(spec.data)
    sizes = {"shape": found.shape, "classes": found.classes, "class_names": tuple("ABCDEFGHIJ"[: found.classes])}
    records = Records.create(place, spec, Fingerprint(data_hash=found.sha256, **sizes))
    network = models.build(spec.model, shape=found.shape, classes=found.classes, mean=[0.3], std=[0.4], seed=3)
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
    counted = {"sparsity": 1 - kept, "prunable": state.size()}
    chain = keyed_phases(spec.trial(params(0)), found.sha256)
    dense, pruned = ({"key": s.key, "stage": s.parent} for s in chain if isinstance(s.phase, Measure))
    real = point(1, **counted, **pruned, weights_sha256=state.weights_sha256(), flags=("warned",))
    Stages(place).save(real.stage, state, epochs=5, seconds=1.0, study="synthetic", trial=0)
    records.issue(trial(0, spec, keys=[step.key for step in chain]))
    records.write_outcome(outcome(0, (measured(0, params(0))[0].model_copy(update=dense), real)))
    return tmp_path, state


def take(place: Path, which: str, output: str = "taken", *more: str) -> tuple[int, str, str]:
    result = run("model", "synthetic", which, "--output", place / output, "--storage", place / "runs", *more)
    return result.exit_code, result.stdout, result.stderr


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
    card = json.loads((place / "taken" / paths.MODEL_CARD).read_text())
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
    assert json.loads((place / "taken" / paths.MODEL_CARD).read_text())["noise"] == pytest.approx(0.5)
    place, _ = stored(tmp_path / "on", study_spec(protocol={"eps": 0.1, "noise": True}), strength=0.5)
    code, _, error = take(place, "t0.1")
    assert code == 2
    assert "measured with noise" in error
    assert not (place / "taken").exists()


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
    card = json.loads((place / "small" / paths.MODEL_CARD).read_text())
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
        ("best", "front"),
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
    assert json.loads((place / "taken" / paths.MODEL_CARD).read_text())["point"] == "t0.1"


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
