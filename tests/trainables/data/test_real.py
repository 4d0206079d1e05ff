"""Real files, where this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from trainables.data import DATASETS
from trainables.data.base import Data
from trainables.data.files import DATA_VARIABLE
from trainables.data.heldout import load_test
from trainables.data.splits import quotas
from trainables.data.tensors import load

HERE = Path(os.environ.get(DATA_VARIABLE) or Path(__file__).parents[3] / "data")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SETS = {
    "cifar10": (HERE / "cifar10", (3, 32, 32), 50_000),
    "mnist": (HERE / "mnist", (1, 28, 28), 60_000),
    "fashion_mnist": (DEBIAN, (1, 28, 28), 60_000),
}


@pytest.fixture(
    params=[
        pytest.param("cifar10", marks=pytest.mark.slow),
        pytest.param("mnist", marks=pytest.mark.slow),
        "fashion_mnist",
    ]
)
def real(request: pytest.FixtureRequest) -> Data:
    root, _, _ = SETS[request.param]
    if not root.is_dir():
        pytest.skip(f"{request.param} is not at {root}; {DATA_VARIABLE} names the folder above it")
    return DATASETS[request.param](root=None if root == DEBIAN else str(root))


@pytest.mark.slow
def test_real_files(real: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    _, shape, n = SETS[real.kind]
    loaded = load(real)
    assert loaded.shape == shape
    assert loaded.classes == 10
    assert len(loaded.train) == n - 5000
    counts = loaded.train.y.bincount() + loaded.validation.y.bincount()
    assert loaded.validation.y.bincount().tolist() == quotas(counts.numpy(), 5000).tolist()
    assert np.abs(loaded.validation.y[:1000].bincount().numpy() - 100).max() < 40
    known = {
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
        "mnist": ((0.1307,), (0.3081,)),
        "fashion_mnist": ((0.2860,), (0.3530,)),
    }[real.kind]
    assert loaded.mean == pytest.approx(known[0], abs=0.002)
    assert loaded.std == pytest.approx(known[1], abs=0.003)
    test = load_test(real)
    assert len(test) == 10_000
    assert tuple(test.x.shape[1:]) == shape
    assert np.abs(test.y[:1000].bincount().numpy() - 100).max() < 40
