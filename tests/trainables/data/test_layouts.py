"""What single layouts must refuse or convert."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.trainables.data.made import COLOUR, GREY, TRAIN, made, png, write, write_classes
from trainables.core.errors import DataError
from trainables.data import DATASETS
from trainables.data.cifar import Cifar10
from trainables.data.decode import decode
from trainables.data.idx import read_idx
from trainables.data.image_folder import ImageFolder
from trainables.data.parquet import Parquet


def encoded(*images: np.ndarray | bytes) -> list[tuple[str, io.BytesIO]]:
    contents = (image if isinstance(image, bytes) else png(image) for image in images)
    return [(f"image {number}", io.BytesIO(content)) for number, content in enumerate(contents)]


def test_decode_keeps_pixels() -> None:
    images, _ = made(5, (3, 4, 6), 0)
    assert np.array_equal(decode(encoded(*images), 5), images)
    grey, _ = made(5, (1, 4, 6), 0)
    assert np.array_equal(decode(encoded(*grey), 5), grey)
    assert np.array_equal(decode(encoded(*grey), 5, channels=3), grey.repeat(3, axis=1))


def test_decode_refuses_colour_after_grey() -> None:
    grey, colour = made(1, (1, 4, 6), 0)[0][0], made(1, (3, 4, 6), 0)[0][0]
    with pytest.raises(DataError, match="image 1 has colours"):
        decode(encoded(grey, colour), 2)
    assert decode(encoded(grey, colour), 2, channels=1).shape == (2, 1, 4, 6)
    assert np.array_equal(decode(encoded(colour, grey), 2)[1], grey.repeat(3, axis=0))


def test_decode_refuses_different_sizes_without_a_size() -> None:
    small, large = made(1, (3, 4, 6), 0)[0][0], made(1, (3, 8, 8), 0)[0][0]
    with pytest.raises(DataError, match="image 1 is 8x8, but the first image is 6x4; set `size`"):
        decode(encoded(small, large), 2)
    resized = decode(encoded(small, large), 2, size=8)
    assert resized.shape == (2, 3, 8, 8)
    assert np.array_equal(resized[1], large)


@pytest.mark.parametrize("content", [b"", b"no image", png(np.zeros((3, 30, 30), np.uint8))[:50]])
def test_decode_names_what_is_damaged(content: bytes) -> None:
    good = np.zeros((3, 30, 30), np.uint8)
    with pytest.raises(DataError, match="image 1 is not a readable image"):
        decode(encoded(good, content), 2)


def test_decode_refuses_sixteen_bits() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(buffer, "PNG")
    with pytest.raises(DataError, match="I;16"):
        decode(encoded(buffer.getvalue()), 1)


def test_parquet_columns_by_name(tmp_path: Path) -> None:
    _, train, _ = write("parquet", tmp_path)
    named = Parquet(root=str(tmp_path), image="image", label="coarse").read_training()
    assert np.array_equal(named[1], train[1] // 2)
    with pytest.raises(DataError, match=r"no column 'lable', only image, label, coarse; did you mean 'label'"):
        Parquet(root=str(tmp_path), label="lable").read_training()
    with pytest.raises(DataError, match="not a struct with `bytes`"):
        Parquet(root=str(tmp_path), image="coarse").read_training()
    with pytest.raises(DataError, match="not integers"):
        Parquet(root=str(tmp_path), label="image").read_training()


def test_parquet_rows_without_image_are_named(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": png(made(1, GREY, 0)[0][0]), "path": None}, {"bytes": None, "path": "elsewhere.png"}]
    pq.write_table(pa.table({"image": pa.array(rows, kind), "label": [0, 1]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet, row 1: no image bytes"):
        Parquet(root=str(tmp_path)).read_training()
    pq.write_table(pa.table({"image": pa.array(rows, kind), "label": [None, 1]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet: 1 rows have no label"):
        Parquet(root=str(tmp_path)).read_training()


def test_parquet_reads_shards_in_order(tmp_path: Path) -> None:
    _, train, _ = write("parquet", tmp_path)
    files = Parquet(root=str(tmp_path)).training_files()
    assert [path.name for path in files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert np.array_equal(Parquet(root=str(tmp_path)).read_training()[0], train[0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an idx file"),
        (bytes((0, 0, 13, 1, 0, 0, 0, 0)), "not an idx file"),
        (bytes((0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2)), "not an idx file of unsigned bytes in 1"),
        (bytes((0, 0, 8, 1, 0, 0, 0, 3, 1, 2)), r"says \[3\], but 2 bytes"),
        (bytes((0, 0, 8, 1, 0, 0, 0, 1, 1, 2)), r"says \[1\], but 2 bytes"),
    ],
)
def test_idx_refuses(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_idx(tmp_path / "labels", 1)


def test_cifar_batch_cannot_run_code(tmp_path: Path) -> None:
    write("cifar10-torchvision", tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_2"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "canary"),)

    batch.write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    with pytest.raises(DataError, match="data_batch_2 is not a CIFAR batch"):
        Cifar10(root=str(tmp_path)).read_training()
    assert not (tmp_path / "canary").exists()


def test_a_cifar_batch_under_two_names_is_refused(tmp_path: Path) -> None:
    write("cifar10-torchvision", tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    (folder / "data_batch_4").write_bytes((folder / "data_batch_2").read_bytes())
    with pytest.raises(DataError, match="data_batch_2 and data_batch_4 have the same content"):
        Cifar10(root=str(tmp_path)).read_training()


@pytest.mark.parametrize("protocol", range(5))
def test_cifar_batches_of_any_protocol(protocol: int, tmp_path: Path) -> None:
    _, train, _ = write("cifar10-torchvision", tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    content = {"data": train[0][:12].reshape(12, -1), "labels": train[1][:12].tolist()}
    batch.write_bytes(pickle.dumps(content, protocol=protocol))
    assert np.array_equal(Cifar10(root=str(tmp_path)).read_training()[0], train[0])


def test_torchvision_reads_our_layouts_alike(tmp_path: Path) -> None:
    """The same bytes through torchvision's own classes, their checksums aside."""
    from torchvision.datasets import MNIST, SVHN
    from torchvision.datasets import ImageFolder as TorchvisionFolder

    for layout in ("mnist-torchvision", "svhn-torchvision", "image_folder"):
        write(layout, tmp_path / layout)
    theirs = MNIST(str(tmp_path / "mnist-torchvision"))
    images, labels = DATASETS["mnist"](root=str(tmp_path / "mnist-torchvision")).read_training()
    assert np.array_equal(theirs.data.numpy(), images[:, 0])
    assert theirs.targets.tolist() == labels.tolist()

    class Unchecked(SVHN):  # type: ignore[misc]
        def _check_integrity(self) -> bool:
            return True

    house = Unchecked(str(tmp_path / "svhn-torchvision"))
    images, labels = DATASETS["svhn"](root=str(tmp_path / "svhn-torchvision")).read_training()
    assert np.array_equal(house.data, images)
    assert house.labels.tolist() == labels.tolist()

    folder = TorchvisionFolder(str(tmp_path / "image_folder" / "train"))
    images, labels = ImageFolder(root=str(tmp_path / "image_folder")).read_training()
    assert [label for _, label in folder] == labels.tolist()
    assert all(
        np.array_equal(np.asarray(image).transpose(2, 0, 1), ours)
        for (image, _), ours in zip(folder, images, strict=True)
    )


def test_tiny_imagenet_as_it_comes(tmp_path: Path) -> None:
    train, test = made(TRAIN, COLOUR, 1), made(10, COLOUR, 2)
    for number, (image, label) in enumerate(zip(*train, strict=True)):
        place = tmp_path / "train" / f"n{label:08d}" / "images"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"n{label:08d}_{number}.png").write_bytes(png(image))
    (tmp_path / "val" / "images").mkdir(parents=True)
    (tmp_path / "test" / "images").mkdir(parents=True)
    lines = []
    for number, (image, label) in enumerate(zip(*test, strict=True)):
        (tmp_path / "val" / "images" / f"val_{number}.png").write_bytes(png(image))
        (tmp_path / "test" / "images" / f"test_{number}.png").write_bytes(png(image))
        lines.append(f"val_{number}.png\tn{label:08d}\t0\t0\t62\t62")
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    spec = ImageFolder(root=str(tmp_path))
    images, labels = spec.read_training()
    assert np.array_equal(np.bincount(labels), np.bincount(train[1]))
    held, held_labels = spec.read_test()
    assert np.array_equal(held, test[0])
    assert held_labels.tolist() == test[1].tolist()
    assert images.shape == (TRAIN, *COLOUR)


def test_image_folder_prefers_test_to_val(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", made(20, COLOUR, 0))
    write_classes(tmp_path / "val", made(20, COLOUR, 1))
    write_classes(tmp_path / "test", made(30, COLOUR, 2))
    assert len(ImageFolder(root=str(tmp_path)).read_test()[1]) == 30


def test_image_folder_resizes_and_greys(tmp_path: Path) -> None:
    write("image_folder", tmp_path)
    images, _ = ImageFolder(root=str(tmp_path), size=8, channels=1).read_training()
    assert images.shape == (TRAIN, 1, 8, 8)
