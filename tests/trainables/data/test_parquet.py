"""Types of columns, names of classes and shards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainables.data.made import made, png
from trainables.core.errors import DataError, RobustsearchError
from trainables.data.heldout import load_test
from trainables.data.parquet import Parquet
from trainables.data.tensors import TrainingData, load

N = 30
IMAGES = [png(image) for image in made(N, (1, 6, 5), 0)[0]]
LABELS = [number % 3 for number in range(N)]

Write = Callable[..., Parquet]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def writer(
        labels: Any = LABELS, images: Any = None, part: str = "train", names: Any = None, **more: Any
    ) -> Parquet:
        images = [{"bytes": image, "path": None} for image in IMAGES] if images is None else images
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = pa.table({"image": images, "label": labels, **more})
        if names is not None:
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, tmp_path / f"{part}.parquet")
        return Parquet(root=str(tmp_path), validation=6)

    return writer


def per_class(data: TrainingData) -> list[int]:
    return (data.train.y.bincount() + data.validation.y.bincount()).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())]
)
def test_images_may_be_plain_binary_values(kind: pa.DataType, write: Write) -> None:
    expected = write().read_training()[0]
    assert np.array_equal(write(images=pa.array(IMAGES, kind)).read_training()[0], expected)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.uint64(), pa.dictionary(pa.int8(), pa.int64()), pa.bool_()])
def test_labels_of_any_integer_type(kind: pa.DataType, write: Write) -> None:
    labels = [label % 2 for label in LABELS]
    assert (
        write(pa.array(map(bool, labels) if kind == pa.bool_() else labels, kind)).read_training()[1].tolist() == labels
    )


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([-1, *LABELS[1:]], "train.parquet, row 0: label -1; labels must be 0 or more"),
        ([0, 1, None, *LABELS[3:]], "train.parquet: 1 rows have no label, the first is row 2"),
        ([float(label) for label in LABELS], "column 'label' is double, not integers; number the classes from 0"),
        ([str(label) for label in LABELS], "column 'label' is string, not integers"),
        (pa.array([str(label) for label in LABELS]).dictionary_encode(), "column 'label' is string, not integers"),
        ([[label] for label in LABELS], "column 'label' is list<.*>, not integers"),
        (pa.array([2**63 + label for label in LABELS], pa.uint64()), "column 'label' has labels beyond 64 bits"),
        ([2**40, *LABELS[1:]], "the class '1099511627776' has one image; a class needs two or more"),
        ([7] * N, "all images are of one class, '7'"),
        (list(range(N)), "6 images are too few for 30 classes"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: Any, words: str, write: Write) -> None:
    with pytest.raises(RobustsearchError, match=words):
        load(write(labels))


@pytest.mark.parametrize("values", [(1, 2, 3), (10, 20, 30), (0, 5, 2**40)])
def test_labels_with_gaps_are_numbered_and_named(values: tuple[int, ...], write: Write) -> None:
    spec = write([values[label] for label in LABELS])
    data = load(spec)
    assert data.classes == 3
    assert per_class(data) == [10, 10, 10]
    assert data.class_names == tuple(map(str, values))
    numbered = ", ".join(map(str, values))
    assert data.notes == (f"labels {numbered} are numbered 0 to 2; their classes are named as the labels",)
    write([values[2]] * N, part="test")
    assert set(load_test(spec).y.tolist()) == {2}, "test labels are numbered as training labels are"
    write([4] * N, part="test")
    with pytest.raises(DataError, match="no training image has the label 4"):
        load_test(spec)


def test_selected_labels_are_those_of_the_files(write: Write) -> None:
    spec = write([10 * label for label in LABELS]).model_copy(update={"select": (20, 0)})
    data = load(spec)
    assert data.class_names == ("20", "0")
    assert per_class(data) == [10, 10]
    assert data.notes == ("10 of 30 images not used: `select` names other classes",)


def test_names_of_classes_are_those_of_the_metadata(write: Write) -> None:
    spec = write(names=["cat", "dog", "b\u202eird"])
    assert load(spec).class_names == ("cat", "dog", "b\\u202eird")
    assert load(spec.model_copy(update={"select": (2, 0)})).class_names == ("b\\u202eird", "cat")
    write(part="test", names=["dog", "cat", "b\u202eird"])
    with pytest.raises(DataError, match="the label 0 is 'cat' in training and 'dog' in test files"):
        load_test(spec)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cat", "dog"], "a label is 2, but the 2 classes are numbered 0 to 1"),
        (["a", "b", "c", "d"], r"no image is labelled 3 \(d\), but there are 4 classes; .*`select: \[0, 1, 2\]`"),
        (["cat", "dog", "cat"], "two classes are named 'cat'"),
    ],
)
def test_names_that_do_not_fit_are_refused(names: list[str], words: str, write: Write) -> None:
    with pytest.raises(DataError, match=words):
        load(write(names=names))


@pytest.mark.parametrize("names", [{"a": 1}, [1, 2, 3], "abc"])
def test_strange_metadata_are_ignored(names: Any, write: Write) -> None:
    assert load(write(names=names)).class_names == ("0", "1", "2")


def test_a_second_image_column_and_other_files_are_named(write: Write, tmp_path: Path) -> None:
    spec = write(img=IMAGES)
    shutil.copy(tmp_path / "train.parquet", tmp_path / "extra.parquet")
    assert load(spec).notes == (
        "1 column not read, as img is: image",
        "1 file not used, of another split by the name: extra.parquet",
    )


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train-00000-of-00001.parquet", "train-00000-of-00001-1a2b3c.parquet"], "1a2b3c.* are the same shard"),
        (["train-00000-of-00002.parquet"], "1 of 2 shards train-.* are there; number 1 is missing"),
        (["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"], "shards of 1 and of 2"),
        (["train.parquet", "train-00000-of-00001.parquet"], "train-00000-of-00001.* and train.parquet have the same"),
        (["train_a.parquet", "train_b.parquet"], "train_a.parquet and train_b.parquet have the same content"),
    ],
)
def test_shards_that_are_missing_or_there_twice_are_refused(
    names: list[str], words: str, write: Write, tmp_path: Path
) -> None:
    spec = write()
    content = (tmp_path / "train.parquet").read_bytes()
    (tmp_path / "train.parquet").unlink()
    for name in names:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        load(spec)


def test_the_same_images_in_two_files_are_found_by_their_pixels(write: Write, tmp_path: Path) -> None:
    write()
    spec = write(part="train-more", extra=LABELS)
    with pytest.raises(DataError, match="validation images equal an image that is trained on"):
        load(spec)


def test_any_damage_is_refused_by_the_files_name(write: Write, tmp_path: Path) -> None:
    spec, path = write(), tmp_path / "train.parquet"
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = []
    for at in [*rng.integers(0, len(content), 30), *rng.integers(len(content) - 600, len(content), 60)]:
        damaged = bytearray(content)
        damaged[at] ^= int(rng.integers(1, 256))
        for candidate in (bytes(damaged), content[:at]):
            path.write_bytes(candidate)
            try:
                spec.read_training()
            except DataError as error:
                refused.append(str(error))
    assert len(refused) > 90
    assert all("train.parquet" in message for message in refused)
