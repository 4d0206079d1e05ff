"""The examples in the documents run: studies and cluster files, plug-ins, kits, and the Python API."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from search.cluster import spec as cluster_spec
from search.files import yaml
from search.study import file as study_file
from search.study import spec as study_spec
from tests.pages import CLUSTER_FILE, PAGES, PAGES_FOR_READERS, READABLE, ROOT, STUDY_FILE, blocks

TINY = {
    "name": "tiny",
    "data": {"kind": "digits", "limit": 200},
    "model": {"kind": "lenet300", "hidden": [16]},
    "recipe": {"kind": "three_stage", "epochs": 1, "finetune_epochs": 1, "sparsity": 0.5},
    "protocol": {"eps": 0.1, "examples": 50, "attack": {"kind": "pgd", "steps": 2}},
}
TRAIN = {"batch": 64, "eps": 0.1, "attack": {"kind": "pgd", "steps": 1}, "precision": "fp32"}


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another; what is of another kind replaces what was there."""
    found = dict(base)
    for key, value in more.items():
        old = found.get(key)
        both = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("kind", old.get("kind")) == old.get("kind")
        )
        found[key] = merged(old, value) if both else value
    return found


@pytest.mark.slow
def test_the_python_page_runs_from_top_to_bottom(tmp_path: Path) -> None:
    script = "\n".join(blocks(PAGES["python.md"], "python"))
    fast = script.replace('storage="runs")\nprint', 'storage="runs", overrides=FAST)\nprint', 1)
    assert fast != script
    (tmp_path / "page.py").write_text('FAST = {"recipe.epochs": 41, "protocol.examples": 50}\n' + fast)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 trials complete" in done.stdout
    assert "4 False" in done.stdout


@pytest.mark.parametrize("page", ["README.md", STUDY_FILE, CLUSTER_FILE])
def test_yaml_of_the_manual_is_accepted(page: str, tmp_path: Path) -> None:
    found = [block for block in blocks(READABLE[page], "yaml") if "plugins:" not in block]
    assert found
    for block in found:
        data = yaml.parse(block, page).data
        if "kind" in data:
            (tmp_path / "cluster.yaml").write_text(block)
            assert cluster_spec.load(tmp_path / "cluster.yaml").kind == data["kind"]
        else:
            study_spec.StudySpec.model_validate(merged(TINY, data))


PLUG_IN = """
import json, sys
import torch
from search.study.spec import StudySpec
from trainables.data import tensors
from trainables.worker.run import Run
from trainables.store.stages import Stages
from trainables.store.storage import Storage
import importlib

torch.set_num_threads(1)
for number, study in enumerate(json.load(open("studies.json"))):
    for module in study["plugins"]:
        importlib.import_module(module)
    trial = StudySpec.model_validate(study).trial({})
    stages = Stages(Storage(f"stages-{number}"))
    run = Run(trial, tensors.load(trial.data), stages, 0, "tiny", torch.device("cpu"))
    points = [progress.point for progress in run.progress() if progress.point is not None]
    print(json.dumps([study["plugins"][0], len(points), points[-1].sparsity, points[-1].attack, points[-1].prunable]))
"""


@pytest.mark.slow
def test_plug_ins_of_the_manual_train_and_measure_a_network(tmp_path: Path) -> None:
    page = PAGES["plug-ins.md"]
    modules = {block.splitlines()[0].removeprefix("# "): block for block in blocks(page, "python")}
    for name, block in modules.items():
        (tmp_path / name).write_text(block)
    found = [yaml.parse(block, "plug-ins.md").data for block in blocks(page, "yaml")]
    studies = [study for study in found if len(study) > 1]
    assert [[f"{module}.py" for module in study["plugins"]] for study in studies] == [[name] for name in modules]
    whole = [
        merged(merged(TINY, study), {"recipe": {**_recipe(study), "train": {**TRAIN, **_training(study)}}})
        for study in studies
    ]
    (tmp_path / "studies.json").write_text(json.dumps(whole))
    # This tree's code, whichever is installed.
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PLUG_IN]
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    results = {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}
    assert len(results) == len(modules) == 12
    for name, (points, sparsity, _, _) in results.items():
        assert points == (1 if name in ("my_recipes", "my_mask_updates") else 2), name
        assert sparsity == pytest.approx(0.5, abs=0.01), name
    assert results["my_models"][3] == 64 * 100 + 100 * 10
    assert results["my_attacks"][2] == "CORNERS"


@pytest.mark.slow
def test_the_kit_of_the_manual_passes_for_its_plug_in(tmp_path: Path) -> None:
    page = PAGES["plug-ins.md"]
    for block in [*blocks(page, "python"), *blocks(page, "py")]:
        (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_losses.py"]
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 20


def test_the_readme_shows_the_plug_in_that_is_tested() -> None:
    shown = [block for block in blocks(READABLE["README.md"], "python") if block.startswith("# my_models.py")]
    assert len(shown) == 1
    assert shown[0] in blocks(PAGES["plug-ins.md"], "python")


HEADERS = {name: re.sub(r"\n# ", " ", study_file.builtin_text(name)) for name in study_file.builtin_names()}
SET = [(name, found) for name, text in HEADERS.items() for found in re.findall(r"`(--set [^`]+)`", text)]
LAUNCHES = [
    (path.name, re.sub(r"\s+#.*", "", re.sub(r"\\\n", " ", found)))
    for path in PAGES_FOR_READERS
    for found in re.findall(r"robustsearch launch ((?:[^`\n\\]|\\\n)+)", path.read_text(encoding="utf-8"))
    if found.split()[0] in HEADERS
]


@pytest.mark.parametrize(("study", "options"), SET)
def test_what_the_header_of_a_built_in_study_sets_is_valid(study: str, options: str) -> None:
    study_file.load(study, _overrides(options))


@pytest.mark.parametrize(("page", "command"), LAUNCHES)
def test_a_launch_of_a_built_in_study_is_valid(page: str, command: str) -> None:
    study_file.load(shlex.split(command)[0], _overrides(command))


def test_such_commands_are_found() -> None:
    assert {study for study, _ in SET} > {"guo2018-mnist", "cosentino2019-mnist"}
    assert len(LAUNCHES) > 5


def _overrides(command: str) -> list[str]:
    words = shlex.split(command)
    return [value for option, value in pairwise(words) if option == "--set"]


def _recipe(study: dict[str, Any]) -> dict[str, Any]:
    return {"kind": TINY["recipe"]["kind"], "epochs": 1, "sparsity": 0.5, **study.get("recipe", {})}  # type: ignore[index]


def _training(study: dict[str, Any]) -> dict[str, Any]:
    return dict(study.get("recipe", {}).get("train", {}))
