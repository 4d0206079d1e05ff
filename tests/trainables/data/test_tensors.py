from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.data.made import write
from trainables.core.errors import DataError, SpecError
from trainables.data import DATASETS
from trainables.data.tensors import batch_sizes, batches, load, statistics


def test_load_is_kept_in_memory() -> None:
    spec = DATASETS["digits"]()
    assert load(spec) is load(DATASETS["digits"](), torch.device("cpu"))
    assert load(spec) is not load(DATASETS["digits"](split_seed=1))


def test_limit_leaves_the_validation_split_alone() -> None:
    whole, some = load(DATASETS["digits"]()), load(DATASETS["digits"](limit=200))
    assert len(some.train) == 200
    assert some.split_hash == whole.split_hash
    assert some.fingerprint == whole.fingerprint
    assert torch.equal(some.validation.x, whole.validation.x)
    counts = some.train.y.bincount()
    assert counts.min() >= 19
    assert counts.max() <= 21


def test_split_seed_changes_the_split_alone() -> None:
    first, second = load(DATASETS["digits"]()), load(DATASETS["digits"](split_seed=1))
    assert first.split_hash != second.split_hash
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"validation": 1438}, "validation: 1438 of 1438 training images"),
        ({"validation": 9}, "9 images are too few for 10 classes"),
        ({"validation": 300, "limit": 1139}, "limit: 1139, but only 1138"),
    ],
)
def test_impossible_requests_are_refused(fields: dict[str, int], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        load(DATASETS["digits"](**fields))


def test_statistics_of_known_images() -> None:
    images = np.zeros((2, 3, 1, 2), np.uint8)
    images[:, 0] = 255
    images[0, 1] = 10
    images[1, 1] = 30
    mean, std = statistics(images, 10.0)
    assert mean == (25.5, 2.0, 0.0)
    assert std == (1.0, 1.0, 1.0), "constant, (10 +- 10) / 10, constant"


def test_tensors_do_not_share_the_cache_file(tmp_path: Path) -> None:
    kind, _, _ = write("cifar10-parquet", tmp_path)
    spec = DATASETS[kind](root=str(tmp_path), validation=20)
    loaded = load(spec)
    before = loaded.train.x.clone()
    loaded.train.pixels(slice(None)).zero_()
    loaded.train.pixels().zero_()
    assert torch.equal(loaded.train.x, before)
    loaded.train.x.zero_()
    assert not load(spec.model_copy(update={"limit": 30})).train.x.eq(0).all()


def test_a_channel_first_shape_of_another_set_is_seen(tmp_path: Path) -> None:
    kind, _, _ = write("svhn-torchvision", tmp_path)
    with pytest.raises(DataError, match="cifar10: no training files"):
        load(DATASETS["cifar10"](root=str(tmp_path)))
    assert load(DATASETS[kind](root=str(tmp_path), validation=20)).shape == (3, 32, 32)


def test_specs_load_without_numpy_or_torch() -> None:
    code = (
        "import sys, trainables.data, trainables.data.cache, trainables.data.splits\n"
        "heavy = {'numpy', 'torch', 'torchvision', 'pyarrow', 'PIL', 'sklearn', 'scipy', 'ray', 'optuna'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@given(n=st.integers(1, 300), batch=st.integers(1, 40), merged=st.booleans())
def test_batches_have_each_image_once_and_none_of_one_is_left_where_that_is_asked(
    n: int, batch: int, merged: bool
) -> None:
    sizes = batch_sizes(n, batch, none_of_one=merged)
    plain = [batch] * (n // batch) + [n % batch] * (n % batch > 0)
    alone = merged and n > batch > 1 and n % batch == 1
    assert sizes == ([*plain[:-2], batch + 1] if alone else plain)
    found = [*batches(n, batch, torch.Generator().manual_seed(0), none_of_one=merged)]
    assert [len(index) for index in found] == sizes
    assert torch.equal(torch.cat(found), torch.randperm(n, generator=torch.Generator().manual_seed(0)))
