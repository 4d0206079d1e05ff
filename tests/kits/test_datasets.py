"""Every registered data set, by its kit; a new kind with files adds its writer to `made.LAYOUTS`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainables.data.made import LAYOUTS, write
from trainables.data import DATASETS
from trainables.data.base import Data
from trainables.data.files import MissingData
from trainables.testing.data import DataKit

CASES = ["digits", *LAYOUTS]
FILE_KINDS = sorted({kind for kind, _, _ in LAYOUTS.values()})


class TestDataSets(DataKit):
    @pytest.fixture(params=CASES)
    def data(self, request: pytest.FixtureRequest, tmp_path: Path) -> Data:
        """Return a small data set in one layout."""
        if request.param == "digits":
            return DATASETS["digits"](validation=100)
        kind, _, _ = write(request.param, tmp_path / "root")
        return DATASETS[kind](root=str(tmp_path / "root"), validation=20)


def test_every_kind_is_covered() -> None:
    assert set(DATASETS) == {"digits", *FILE_KINDS}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_what_was_written(layout: str, tmp_path: Path) -> None:
    kind, train, test = write(layout, tmp_path)
    spec = DATASETS[kind](root=str(tmp_path), validation=20)
    for expected, read in ((train, spec.read_training()), (test, spec.read_test())):

        def order(arrays: tuple[np.ndarray, np.ndarray]) -> list[tuple[bytes, int]]:
            return [(image.tobytes(), int(label)) for image, label in zip(*arrays, strict=True)]

        if layout == "image_folder":
            assert sorted(order(read)) == sorted(order(expected))
        else:
            assert order(read) == order(expected)


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_missing_files_are_named(kind: str, tmp_path: Path) -> None:
    spec = DATASETS[kind](root=str(tmp_path / "nowhere"))
    with pytest.raises(MissingData) as raised:
        spec.read_training()
    message = str(raised.value)
    assert str(tmp_path / "nowhere") in message
    assert message.startswith(f"{kind}: no training files")
    assert "train" in message or "data_batch_1" in message
    assert ("download: true" in message) == (kind not in ("parquet", "idx", "image_folder"))
