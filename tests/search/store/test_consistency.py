"""Records that are well-formed and right in themselves, but not those of their trial or study."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from search.launch.driver import Driver
from search.results.status import status
from search.results.study import Study
from search.store.check import weights_hash
from search.store.records import Records
from search.store.repair import repair
from search.store.study_yaml import parse_study
from tests.search import factories
from tests.search.command import run
from trainables.core.errors import RobustsearchError
from trainables.store import paths
from trainables.store.records import Outcome, TrialRecord
from trainables.store.state import State, pack
from trainables.store.storage import Storage

FIXTURE = Path(__file__).parents[2] / "fixtures" / "studies" / "schema-1"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("template") / "synthetic"
    factories.make_stored_study(directory)
    return directory


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "runs" / "synthetic"))


def forge(study: Path, path: str, change: Callable[[dict[str, Any]], object], *, sealed: bool = True) -> None:
    """Change a record; with `sealed` by somebody who computes the checksum anew."""
    data = json.loads((study / path).read_bytes())
    change(data)
    content = json.dumps(data, indent=1).encode()
    if sealed:
        content = (TrialRecord if path.endswith(paths.TRIAL) else Outcome).model_validate(data).json_bytes()
    (study / path).write_bytes(content)


def point(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["points"][-1].update({name: value})


OUTCOME = [
    (point("attack", "PGD-2000"), "attack 'PGD-2000', but the study measures with 'PGD-20'"),
    (point("eps", 0.5), "eps 0.5, but the study measures with 0.1"),
    (point("eps_text", "8/255"), "eps_text"),
    (point("norm", "l2"), "norm"),
    (point("split", "test"), "split 'test', but the study measures with 'validation'"),
    (point("tier", "confirmed"), "confirms nothing"),
    (point("tier", "screened"), "does not screen"),
    (point("robust_accuracy", 0.999), "robust_accuracy 0.999, but"),
    (point("sparsity", 0.99), "sparsity 0.99, but"),
    (point("measure", 7), "measurements are 0, 7"),
    (lambda data: data.update(state="failed"), "failed without a failure"),
    (lambda data: data.update(failure={"kind": "bug", "message": "x"}), "complete with a failure"),
    (lambda data: data["params"].update({"recipe.sparsity": 0.99}), "but"),
    (lambda data: data.update(started="1"), "ISO 8601"),
]


@pytest.mark.parametrize(("change", "reason"), OUTCOME)
@pytest.mark.parametrize("sealed", [True, False])
def test_a_forged_outcome_is_damaged_and_on_no_front(
    study: Path, change: Callable[[dict[str, Any]], object], reason: str, sealed: bool
) -> None:
    forge(study, paths.outcome(1), change, sealed=sealed)
    found = Study.open(str(study))
    (damaged,) = status(found).damaged
    assert damaged.path == paths.outcome(1)
    assert reason in damaged.reason or (not sealed and "checksum is missing" in damaged.reason)
    assert {row.trial for row in found.points()} == {0, 2}
    assert {row.trial for row in found.front()} <= {0, 2}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.update(study="other"), "study 'other'"),
        (lambda data: data.update(seed=9), "seed 9"),
        (lambda data: data["params"].update({"recipe.sparsity": 0.1234}), "params.recipe.sparsity is 0.1234, but"),
        (lambda data: data["params"].update({"recipe.epochs": 1}), "not searched"),
        (lambda data: data["spec"]["recipe"].update(sparsity=0.1234), "params.recipe.sparsity"),
    ],
)
def test_a_forged_trial_is_damaged(study: Path, change: Callable[[dict[str, Any]], object], reason: str) -> None:
    forge(study, paths.trial_record(1), change)
    (damaged,) = Records.open(Storage(str(study))).damaged()
    assert damaged.path == paths.trial_record(1)
    assert reason in damaged.reason


@pytest.mark.parametrize("path", [paths.outcome(1), paths.trial_record(1)])
def test_a_record_without_its_checksum_is_no_older_record(study: Path, path: str) -> None:
    def strip(data: dict[str, Any]) -> None:
        del data["checksum"], data["format"]

    forge(study, path, strip, sealed=False)
    (damaged,) = Records.open(Storage(str(study))).damaged()
    assert "checksum is missing" in damaged.reason


def test_a_record_of_an_older_version_is_checked_without_a_checksum(tmp_path: Path) -> None:
    study = Path(shutil.copytree(FIXTURE, tmp_path / "schema-1"))
    forge(study, paths.outcome(0), point("robust_accuracy", 0.999), sealed=False)
    assert [bad.number for bad in Records.open(Storage(str(study))).damaged()] == [0]


@pytest.mark.parametrize(
    ("path", "change", "reason"),
    [
        (paths.trial_record(1), lambda data: data["keys"].reverse(), "its keys are not those of its phases"),
        (paths.trial_record(1), lambda data: data["spec"]["recipe"].update(epochs=99), "its recipe is not the one"),
        (paths.outcome(1), point("stage", "a" * 64), "its keys are not those of the trial's measurement"),
        (paths.outcome(1), lambda data: data["points"].pop(), "complete with 1 of 2 measurements"),
        (paths.outcome(1), point("clean_correct", 330), "clean_correct"),
        (paths.outcome(1), point("weights_sha256", "a" * 64), "weights_sha256 is not that of its stage"),
    ],
)
def test_what_takes_long_to_prove_doctor_checks(
    study: Path, path: str, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    def consistent(data: dict[str, Any]) -> None:
        change(data)
        for row in data.get("points", ()):
            row["clean_accuracy"] = row["clean_correct"] / row["examples"]

    forge(study, path, consistent)
    result = run("doctor", "synthetic", ROBUSTSEARCH_STORAGE=str(study.parent))
    assert result.exit_code == 5
    assert path in result.stdout
    assert reason in " ".join(result.stdout.split())


def test_a_damaged_trial_keeps_its_number_and_runs_again_once_it_is_repaired(study: Path) -> None:
    forge(study, paths.outcome(1), point("robust_accuracy", 0.999))
    forged = (study / paths.outcome(1)).read_bytes()
    records = Records.open(Storage(str(study)))
    seen = [row.trial for row in Driver(records)._sampling.observations]
    assert 1 not in seen
    assert records.next_number() == 4
    found = repair(Storage(str(study)))
    assert found.whole
    assert found.summary == "1 thing repaired"
    assert (study / f"{paths.outcome(1)}.damaged-0").read_bytes() == forged
    assert Records.open(Storage(str(study))).unfinished() == [1, 3]
    again = Driver(Records.open(Storage(str(study)))).next()
    assert again is not None
    assert again.number == 1


def flipped(content: bytes, step: int = 1) -> Iterator[bytes]:
    """Return the content with one bit changed, for every bit, or every `step`-th."""
    for at in range(0, 8 * len(content), step):
        changed = bytearray(content)
        changed[at // 8] ^= 1 << at % 8
        yield bytes(changed)


@pytest.mark.slow
def test_a_flipped_bit_of_a_study_file_is_noticed_or_changes_nothing(study: Path) -> None:
    content = (study / paths.STUDY).read_bytes()
    whole = parse_study(content, "study.yaml", "synthetic")
    for changed in flipped(content, 41):
        with suppress(RobustsearchError):
            assert parse_study(changed, "study.yaml", "synthetic") == whole


def test_a_record_with_a_flipped_bit_is_named_and_shown_nowhere(study: Path) -> None:
    content = (study / paths.outcome(1)).read_bytes()
    for changed in flipped(content, 1499):
        (study / paths.outcome(1)).write_bytes(changed)
        found = Study.open(str(study))
        assert [bad.path for bad in found.damaged()] == [paths.outcome(1)]
        assert {row.trial for row in found.points()} == {0, 2}


def test_the_hash_of_weights_is_that_of_a_measurement() -> None:
    one = {"w": torch.ones(2, 3), "a": torch.tensor(2.0, dtype=torch.bfloat16)}
    buffers = {"b": torch.arange(3), "w2": torch.zeros(1, dtype=torch.bool)}
    state = State(one, buffers, {"w": torch.ones(2, 3, dtype=torch.bool)}, {"e": torch.ones(4, dtype=torch.float64)})
    groups = {"params": one, "buffers": buffers, "masks": state.masks, "latents": state.extras}
    assert weights_hash(pack(groups)) == state.weights_sha256()
    assert weights_hash(b"x") is None
