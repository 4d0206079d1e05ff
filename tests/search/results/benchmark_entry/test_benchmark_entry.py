"""An entry of the adversarial pruning benchmark: its checkpoint, its numbers, its files, and what is refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.results.study import Study
from search.store.records import Records
from search.store.study_yaml import Fingerprint
from tests.search.command import run
from tests.search.factories import make_study, outcome, point, study_spec, trial
from tests.trainables.data import made
from trainables import models
from trainables.attacks.autoattack import AutoAttack
from trainables.attacks.fmn import Fmn
from trainables.data import cache
from trainables.method.phases import Measure
from trainables.recipes.trial import keyed_phases
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Storage

KEY = "Ours_Doe2026Sparse"
SPARSITY = {"recipe.sparsity": {"kind": "float", "low": 0.5, "high": 0.99}}


class Block(nn.Module):
    """A basic block of the benchmark's ResNet-18, by its description: this definition shares no code with ours."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        changes = stride != 1 or inside != outside
        skip = [nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)] if changes else []
        self.shortcut = nn.Sequential(*skip)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class BaseResNet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        for at, (inside, outside) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512)), start=1):
            blocks = Block(inside, outside, 1 if at == 1 else 2), Block(outside, outside, 1)
            self.add_module(f"layer{at}", nn.Sequential(*blocks))
        self.linear = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for at in (1, 2, 3, 4):
            x = getattr(self, f"layer{at}")(x)
        logits: Tensor = self.linear(F.avg_pool2d(x, 4).flatten(1))
        return logits


class BaseVgg16(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = 3
        for size in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512):
            if size:
                layers += [nn.Conv2d(inside, size, 3, padding=1, bias=False), nn.BatchNorm2d(size), nn.ReLU(True)]
                inside = size
            else:
                layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        head = [nn.Linear(2048, 256), nn.ReLU(True), nn.Linear(256, 256), nn.ReLU(True), nn.Linear(256, 10)]
        self.classifier = nn.Sequential(*head)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return logits


BASES: dict[str, type[nn.Module]] = {"resnet18": BaseResNet18, "vgg16": BaseVgg16}


@dataclass(frozen=True)
class Stored:
    """A storage with a study of one trial, whose network is random and pruned to 90 %; and its data's test images."""

    root: Path
    net: nn.Module
    images: Tensor
    labels: Tensor


def stored(root: Path, model: str, *, normalise: bool = True) -> Stored:
    layout, _, (images, labels) = made.write("cifar10-parquet", root / "data")
    data = {"kind": "cifar10", "root": layout and str(root / "data"), "validation": 20}
    described = {"kind": model, "normalise": normalise}
    recipe = {"kind": "hydra", "sparsity": 0.9, "epochs": 2, "prune_epochs": 1, "finetune_epochs": 1}
    spec = study_spec(
        name="field",
        data=data,
        model=described,
        recipe=recipe,
        space=SPARSITY,
        constraints={},
        protocol={"eps": "8/255"},
    )
    found = cache.fingerprint(spec.data)
    place = Storage(str(root / "runs" / "field"))
    sizes: dict[str, Any] = {"shape": found.shape, "classes": 10}
    records = Records.create(place, spec, Fingerprint(data_hash=found.sha256, **sizes))
    net = models.build(spec.model, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], seed=1, **sizes)
    state = State.of(net)
    for name, mask in state.masks.items():
        generator = torch.Generator().manual_seed(len(name))
        mask[:] = torch.rand(mask.shape, generator=generator) < 0.1
    state = state.masked()
    issued = trial(0, spec, params={"recipe.sparsity": 0.9})
    chain = keyed_phases(spec.trial(issued.params), found.sha256)
    dense, sparse = ({"key": step.key, "stage": step.parent} for step in chain if isinstance(step.phase, Measure))
    counted = {"sparsity": 1 - state.nonzero() / state.size(), "prunable": state.size()}
    shared = {"eps": 8 / 255, "eps_text": "8/255", "examples": 20}
    real = point(1, **counted, **sparse, **(shared | {"weights_sha256": state.weights_sha256()}))
    Stages(place).save(real.stage, state, epochs=1, seconds=1.0, study="field", trial=0)
    records.issue(issued.model_copy(update={"keys": tuple(step.key for step in chain)}))
    records.write_outcome(outcome(0, (point(0, sparsity=0.0, prunable=state.size(), **dense, **shared), real)))
    return Stored(root, state.into(net).eval(), torch.tensor(images), torch.tensor(labels))


def enter(found: Stored, *more: str, output: str = "entry") -> Any:
    words = ("benchmark-entry", "field", "t0.1", "--ap-key", KEY, "--output", found.root / output)
    return run(*words, "--storage", found.root / "runs", *more)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the attacks short."""
    monkeypatch.setattr("trainables.worker.benchmark_entry.ATTACK", AutoAttack(steps=2, queries=4))
    monkeypatch.setattr("trainables.worker.benchmark_entry.NEAREST", Fmn(steps=5, step_sizes=(1.0,)))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("model", ["resnet18", "vgg16"])
def test_a_quick_look_has_a_checkpoint_that_loads_strictly_and_says_that_it_is_no_entry(
    model: str, tmp_path: Path
) -> None:
    found = stored(tmp_path, model)
    result = enter(found, "--examples", "12", "--json")
    assert result.exit_code == 0, result.stderr
    key = f"{KEY}_{'R18' if model == 'resnet18' else 'V16'}_CIFAR10_US_90"
    entry = tmp_path / "entry"
    files = {f"{key}.pt", "quick-look.pickle", "quick-look.npy", "quick-look.md", "entry.json", "measured.json"}
    assert {path.name for path in entry.iterdir()} == files
    base = BASES[model]().eval()
    base.load_state_dict(torch.load(entry / f"{key}.pt", weights_only=True)["state_dict"], strict=True)
    x, y = found.images[:12].float() / 255, found.labels[:12]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    with torch.no_grad():
        torch.testing.assert_close(base((x - mean) / std), found.net(x), rtol=1e-4, atol=1e-4)
        right = found.net(x).argmax(1) == y
    measured = json.loads(result.stdout)
    assert (measured["entry"], measured["examples"], measured["eps"]) == (False, 12, 0.031)
    assert measured["clean"] == pytest.approx(float(right.float().mean()))
    assert measured["autoattack"] <= measured["clean"]
    text = (entry / "quick-look.md").read_text()
    assert text.startswith("**This is a quick look and no entry**: 12 images were measured.")
    assert "mean = (0.4, 0.5, 0.6), std = (0.2, 0.25, 0.3)" in text
    distances = pickle.loads((entry / "quick-look.pickle").read_bytes())
    assert distances == np.load(entry / "quick-look.npy").tolist()
    assert [distance == 0 for distance in distances] == (~right).tolist()


ENTRY = {
    "link_to_paper": "https://example.org/paper",
    "ap_key": KEY,
    "Type of Pipeline:": "A-Methods Pruning After Training",
    "A: Pretraining ": "Adversarial Training (AT) TRADES",
    "A: Finetuning": "Adversarial Training (AT) TRADES",
    "A: OneShot (1S) vs Iterative (IT)": "1S",
    "Pruning structure": "Unstructured (US)",
    "Pruning locality": "Local Pruning (L)",
    "Pruning criterion": "Least Importance Score (LIS)",
}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_an_entry_measures_the_images_of_the_benchmark_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stored(tmp_path, "resnet18", normalise=False)
    monkeypatch.setattr("trainables.worker.benchmark_entry.EXAMPLES", 16)
    monkeypatch.setattr("trainables.worker.benchmark_entry.CURVE", slice(14, 18))
    monkeypatch.setattr("trainables.worker.benchmark_entry.BATCH", 10)
    result = enter(found, "--paper", "https://example.org/paper")
    assert result.exit_code == 0, result.stderr
    key = f"{KEY}_R18_CIFAR10_US_90"
    entry = tmp_path / "entry"
    assert json.loads((entry / "entry.json").read_text()) == ENTRY
    assert list(json.loads((entry / "entry.json").read_text())) == list(ENTRY)
    with torch.no_grad():
        right = found.net(found.images[:18].float() / 255).argmax(1) == found.labels[:18]
    measured = json.loads((entry / "measured.json").read_text())
    assert measured["clean"] == pytest.approx(float(right[:16].float().mean()))
    distances = pickle.loads((entry / f"{key}.pickle").read_bytes())
    assert [distance == 0 for distance in distances] == (~right[14:18]).tolist()
    issue = (entry / "issue.md").read_text()
    assert f'_Model GDrive:_ "{key}" : ["your_gdrive_link_id", ".pt"]' in issue
    assert f"_Clean Accuracy:_ {100 * measured['clean']:.2f}\n" in issue
    assert f"_Robust Accuracy (AA):_ {100 * measured['autoattack']:.2f}\n" in issue
    assert "It needs no normalisation" in issue
    assert "AutoAttack: 10 of 16 images" in result.stderr


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "the study is on digits; the adversarial pruning benchmark has CIFAR-10"),
        (
            {"data": {"kind": "cifar10", "validation": 360}},
            "the network is lenet300; the adversarial pruning",
        ),
        (
            {"data": {"kind": "cifar10", "validation": 360, "select": [1, 2]}, "model": "resnet18"},
            "the study uses 2 classes of cifar10",
        ),
        ({"data": {"kind": "cifar10", "validation": 360}, "model": "resnet18"}, r"has 90, 95, 99 % for US"),
    ],
)
def test_what_the_benchmark_does_not_have_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    records = make_study(tmp_path / "runs" / "field", 2, study_spec(**{"name": "field", **changes}), troubled=False)
    row = Study(records).points()[1]
    assert min(abs(100 * row.sparsity - board) for board in (90, 95, 99)) > 0.5
    words = ("benchmark-entry", "field", row.point, "--ap-key", KEY, "--output", tmp_path / "entry")
    result = run(*words, "--storage", tmp_path / "runs")
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "entry").exists()


@pytest.mark.parametrize("key", ["Ours", "Ours_Doe_2026", "Ours Doe", "../x_y"])
def test_a_key_that_the_benchmark_could_not_read_is_refused(key: str, tmp_path: Path) -> None:
    records = make_study(tmp_path / "runs" / "field", 2, study_spec(name="field"), troubled=False)
    row = Study(records).points()[1]
    words = ("benchmark-entry", "field", row.point, "--ap-key", key, "--output", tmp_path / "entry")
    result = run(*words, "--storage", tmp_path / "runs")
    assert result.exit_code == 2
    assert "Method_AuthorYearWord" in result.stderr
