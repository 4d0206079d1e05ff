"""The digits: read from scikit-learn's file without scikit-learn, and equal to what it reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainables.core.errors import DataError
from trainables.data import cache, digits
from trainables.data.digits import Digits


@pytest.mark.slow
def test_images_and_labels_are_those_that_sklearn_loads() -> None:
    from sklearn.datasets import load_digits

    everything = load_digits()
    images, labels, test = digits._read(Digits())
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert np.array_equal(images[:, 0], everything.images)
    assert np.array_equal(labels, everything.target)
    assert test.sum() == len(labels) // 5


def test_no_image_is_in_both_parts() -> None:
    (training, _), (held_out, _) = Digits().read_training(), Digits().read_test()
    assert len(training) + len(held_out) == 1797
    assert training.shape[1:] == held_out.shape[1:] == (1, 8, 8)
    assert training.max() == 16


@pytest.mark.slow
@pytest.mark.parametrize("select", [(), (3, 1, 7)])
def test_the_code_for_outsiders_makes_the_same_arrays(select: tuple[int, ...]) -> None:
    spec = Digits(validation=100, select=select)
    found: dict[str, Any] = {"np": np}
    exec(spec.arrays_code(), found)
    (images, labels), _ = cache.training_arrays(spec)
    assert np.array_equal(found["images"], images)
    assert np.array_equal(found["labels"], labels)
    assert np.array_equal(np.sort(found["test"]), np.flatnonzero(digits._read(spec)[2]))


def test_a_missing_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Digits, "training_files", lambda self: ())
    with pytest.raises(DataError, match="the images come with scikit-learn"):
        Digits().read_training()
