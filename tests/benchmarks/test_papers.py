from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from search.results.verdicts import Bound, Mean, Statement
from tests.pages import PAGES_FOR_READERS, ROOT
from trainables.core.spec import plain

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "papers"))

import common
from common import Bench, Claim, TrialSpec

PAPERS = ROOT / "benchmarks" / "papers"
SCRIPTS = sorted(path.stem for path in PAPERS.glob("*.py") if path.stem != "common")
TRIAL: dict[str, Any] = {
    "data": {"kind": "digits", "limit": 100, "validation": 50},
    "model": {"kind": "lenet300", "hidden": [8]},
    "recipe": {"kind": "three_stage", "epochs": 1, "finetune_epochs": 0, "train": {"loss": "natural"}},
    "protocol": {"eps": 0.1, "attack": "fgsm", "metrics": [{"kind": "attacked", "name": "weak"}, "noise", "weights"]},
}


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_claims_are_a_markdown_table() -> None:
    arm = common.Arm.of([0.1, 0.11, 0.105])
    claim = Claim.about("C1", "rises", "+8", Mean(arm).interval(), Bound(Mean(arm), at_least=0.08))
    assert common.table([claim, Claim("C2", "falls", "-1")]).splitlines()[2:] == [
        "| C1 | rises | +8 | 10.5 [9.3, 11.7] | 3 | holds |",
        "| C2 | falls | -1 |  |  | not tested |",
    ]


@pytest.mark.slow
def test_points_are_measured_once_and_become_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = TrialSpec.model_validate(TRIAL)
    first = Bench(tmp_path).points(trial)
    assert [point.stands_for for point in first] == [{"sparsity": 0.0}, {}]
    monkeypatch.setattr("trainables.worker.run.train", lambda *_: pytest.fail("trained again"))
    bench = Bench(tmp_path)
    assert bench.points(trial) == first
    assert bench.seconds(trial) > 0
    robust = common.arm([first[0]] * 2, "robust_accuracy", common.chance(trial))
    assert robust.outcomes is not None
    assert robust.outcomes.shape == (2, 50)
    assert robust.outcomes.mean(axis=1) == pytest.approx(np.array([first[0].robust_accuracy] * 2))
    assert robust.collapsed == (first[0].clean_accuracy <= 2 * common.chance(trial))
    for name in ("weak_accuracy", "clean_accuracy", "noise_pgd"):
        arm = common.arm([first[0]], name, 0.1, examples=50)
        assert arm.outcomes is not None
        assert arm.outcomes.mean() == pytest.approx(common.number(first[0], name))
    older = first[0].model_copy(update={"outcomes": {}})
    assert common.arm([older], "weak_accuracy", 0.1).outcomes is None
    assert common.arm([first[0]], "hoyer", 0.1).examples is None
    assert common.chance(trial) == pytest.approx(0.1, abs=0.02)


def test_what_a_dry_run_says_counts_shared_phases_once() -> None:
    trials = [TrialSpec.model_validate({**TRIAL, "recipe": {**TRIAL["recipe"], "sparsity": s}}) for s in (0.5, 0.9)]
    assert common.plan(trials) == "2 trials, 1 epochs of training"


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_runs_on_digits_and_ends_with_its_claims(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And all that its tables and claims ask for is what a dry run counts."""
    module = script(name)
    few = ["--methods", "three_stage", "hydra", "magnitude, as hydra", "mad"] if name == "strong_pruners" else []
    options = module.parsed(["--tiny", "--seeds", "1", "--folder", str(tmp_path), *few])
    bench = Bench(options.folder, options.device)
    for trial in module.trials(options):
        bench.points(trial)
    monkeypatch.setattr(Bench, "_run", lambda *_: pytest.fail("not among the trials"))
    text = "\n".join(module.report(options, bench))
    assert "| claim | paper | ours | n | verdict |" in text
    assert "| holds |" not in text  # Of one seed nothing does.


@pytest.mark.slow
def test_a_script_is_a_command(tmp_path: Path) -> None:
    command = [sys.executable, str(PAPERS / "rakin2019.py"), "--tiny", "--dry-run", "--output", "plan.txt"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == (tmp_path / "plan.txt").read_text() == "15 trials, 75 epochs of training\n"


WRITTEN = [
    *((name, PAPERS.joinpath(f"{name}.py").read_text(encoding="utf-8")) for name in SCRIPTS),
    *((path.name, path.read_text(encoding="utf-8")) for path in PAGES_FOR_READERS),
]
COMMANDS = [
    (place, re.sub(r"\s+#.*", "", re.sub(r"\\+\n", " ", found)))
    for place, text in WRITTEN
    for found in re.findall(r"python (benchmarks/papers/\w+\.py(?:[^`\n\\]|\\+\n)*)", text)
]


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 20
    assert {place for place, _ in COMMANDS} >= {*SCRIPTS, "README.md"}


@pytest.mark.parametrize(("place", "command"), COMMANDS)
def test_every_command_that_is_written_down_describes_trials(place: str, command: str) -> None:
    path, *given = shlex.split(command)
    assert (ROOT / path).is_file(), f"{place}: {path}"
    module = script(Path(path).stem)
    assert list(islice(module.trials(module.parsed(given)), 5)), f"{place}: {command}"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_same_options_are_everywhere(name: str) -> None:
    options = script(name).parsed(["--device", "cuda", "--seeds", "7", "--dry-run"])
    assert (options.device, options.seeds, options.dry_run) == ("cuda", 7, True)
    assert sum(1 for _ in script(name).trials(options)) % 7 == 0


def test_images_of_cifar_are_cropped_whatever_the_network() -> None:
    options = script("rakin2019").parsed(["--net", "vgg16", "--set-of", "cifar10", "--finetune-epochs", "0"])
    train = next(iter(script("rakin2019").trials(options))).recipe.train
    assert (train.crop, train.flip, train.batch) == (4, True, 128)


@pytest.mark.parametrize(("rival", "baseline"), [("hydra", "magnitude, as hydra"), ("radmm", "magnitude, as radmm")])
def test_a_baseline_differs_in_one_thing(rival: str, baseline: str) -> None:
    pruners = script("strong_pruners")
    options = pruners.parsed([])
    ours, theirs = (pruners.trial(method, 0.9, 0, options).recipe for method in (rival, baseline))
    first, last = (next(iter(recipe.phases())) for recipe in (ours, theirs))
    assert first == last  # The dense training, to the same stage.
    rates = [
        [phase.training.optimiser.lr for phase in recipe.phases() if phase.kind == "train"][-1]
        for recipe in (ours, theirs)
    ]
    assert rates[0] == rates[1]
    assert theirs.prune.scope == "layerwise"
    total = sum(getattr(phase, "length", 0) for phase in ours.phases())
    assert sum(getattr(phase, "length", 0) for phase in theirs.phases()) == total == options.epochs


def test_controls_leave_out_one_thing() -> None:
    pruners = script("strong_pruners")
    options = pruners.parsed([])

    def phases(method: str) -> list[dict[str, Any]]:
        return [plain(phase) for phase in pruners.trial(method, 0.9, 0, options).recipe.phases()]

    for rival, control, field, without in [
        ("twin_rep", "magnitude, as twin_rep", "weights", {"kind": "plain"}),
        ("flying_bird", "random, as flying_bird", "rewiring", {"drop": 0.0, "final_drop": 0.0}),
    ]:
        ours, theirs = phases(rival), phases(control)
        assert ours != theirs
        for phase, left in zip(ours, theirs, strict=True):
            if phase["kind"] == "train":
                assert without.items() <= left[field].items()
                assert {**phase, field: None} == {**left, field: None}
            else:
                assert phase == left


def test_statements_of_claims_are_of_the_module() -> None:
    """A script gives no verdict by itself."""
    assert isinstance(Claim("", "", "").statement, Statement)
    for name in SCRIPTS:
        text = (PAPERS / f"{name}.py").read_text(encoding="utf-8")
        assert not re.search(r"\"(holds|does not|cannot tell)\"", text), name
