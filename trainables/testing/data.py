"""What every data set must do."""

from __future__ import annotations

import pytest
import torch

from trainables.core.keys import key
from trainables.core.spec import plain
from trainables.data import DATASETS
from trainables.data.base import Data
from trainables.data.cache import fingerprint
from trainables.data.content import readable
from trainables.data.heldout import load_test
from trainables.data.tensors import load


class DataKit:
    """Tests of a data set that is small, whose images all differ, and that has at least the classes 0 and 1."""

    reaches_white = True
    """Whether a pixel of the training images has the largest value, that of `scale`."""

    @pytest.fixture
    def data(self) -> Data:
        """Return the data set to test, with files where it reads any."""
        raise NotImplementedError

    def test_splits_are_disjoint_and_whole(self, data: Data) -> None:
        images, labels = data.read_training()
        loaded = load(data)
        assert loaded.shape == images.shape[1:] == tuple(loaded.train.x.shape[1:])
        assert len(loaded.validation) == data.validation
        rows = [row.tobytes() for row in images]
        assert len(set(rows)) == len(rows), "the oracle needs images that differ"
        split = [t.numpy().tobytes() for t in (*loaded.train.x, *loaded.validation.x)]
        assert sorted(split) == sorted(rows)
        label_of = dict(zip(rows, labels.tolist(), strict=True))
        for part in (loaded.train, loaded.validation):
            assert part.y.tolist() == [label_of[image.numpy().tobytes()] for image in part.x]

    def test_classes_can_be_selected(self, data: Data) -> None:
        images, labels = data.read_training()
        some = data.model_copy(update={"select": (1, 0), "validation": 10})
        loaded, test = load(some), load_test(some)
        assert loaded.classes == 2
        assert loaded.fingerprint != load(data).fingerprint
        assert fingerprint(some).images == len(loaded.train) + len(loaded.validation) == int((labels < 2).sum())
        number_of = {image.tobytes(): int(1 - label) for image, label in zip(images, labels, strict=True)}
        for part in (loaded.train, loaded.validation):
            assert part.y.tolist() == [number_of[image.numpy().tobytes()] for image in part.x]
        assert set(test.y.tolist()) == {0, 1}

    def test_images_are_counted_as_they_are_read(self, data: Data) -> None:
        assert data.count_training() in (None, len(data.read_training()[1]))
        assert data.count_test() in (None, len(load_test(data)))

    def test_each_class_has_one_name(self, data: Data) -> None:
        loaded = load(data)
        assert len(loaded.class_names) == len(set(loaded.class_names)) == loaded.classes
        assert all(name == readable(name) for name in loaded.class_names)

    def test_types_and_ranges(self, data: Data) -> None:
        loaded = load(data)
        for part in (loaded.train, loaded.validation, load_test(data)):
            assert part.x.dtype == torch.uint8
            assert part.y.dtype == torch.int64
            assert len(part) == len(part.x) == len(part.y)
            assert 0 <= part.y.min() <= part.y.max() < loaded.classes
            pixels = part.pixels(slice(0, 7))
            assert pixels.dtype == torch.float32
            assert 0 <= pixels.min() <= pixels.max() <= 1
            assert torch.equal(pixels, part.x[:7].float() / part.scale)
            assert torch.equal(part.pixels(torch.tensor([3, 1])), part.pixels()[[3, 1]])
        assert not self.reaches_white or loaded.train.pixels().max() == 1, "the scale is the largest value there is"

    def test_statistics_are_the_training_pixels(self, data: Data) -> None:
        loaded = load(data)
        pixels = loaded.train.pixels().double()
        assert loaded.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-6)
        assert loaded.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), rel=1e-6)

    def test_fingerprint_agrees_before_and_after(self, data: Data) -> None:
        first = fingerprint(data)
        loaded = load(data)
        assert first == fingerprint(data)
        assert first == (loaded.fingerprint, len(loaded.train) + len(loaded.validation), loaded.classes, loaded.shape)

    def test_test_images_are_no_training_images(self, data: Data) -> None:
        training = {row.tobytes() for row in data.read_training()[0]}
        test = [image.numpy().tobytes() for image in load_test(data).x]
        assert sorted(test) == sorted(row.tobytes() for row in data.read_test()[0])
        assert not training.intersection(test)

    def test_root_and_download_are_no_part_of_a_key(self, data: Data) -> None:
        elsewhere = data.model_copy(update={"root": "elsewhere", "download": True})
        assert key(data, None) == key(elsewhere, None)
        assert key(data, None) != key(data.model_copy(update={"split_seed": 1}), None)

    def test_round_trip(self, data: Data) -> None:
        assert DATASETS.parse(plain(data)) == data
