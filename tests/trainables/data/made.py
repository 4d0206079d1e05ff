"""Small data sets written in every layout, for tests."""

from __future__ import annotations

import gzip
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

Arrays = tuple[np.ndarray, np.ndarray]
TRAIN, TEST = 60, 20


def made(n: int, shape: tuple[int, int, int], seed: int, classes: int = 10) -> Arrays:
    """Make random images with every class in them."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes).astype(np.int64)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), labels


def png(image: np.ndarray) -> bytes:
    """Encode one (C, H, W) image without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_idx(folder: Path, prefix: str, arrays: Arrays, *, packed: bool) -> None:
    """Write an images and a labels file."""
    images, labels = arrays
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in ((f"{prefix}-images-idx3-ubyte", images[:, 0]), (f"{prefix}-labels-idx1-ubyte", labels)):
        header = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
        content = header + values.astype(np.uint8).tobytes()
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def write_parquet(folder: Path, part: str, arrays: Arrays, image: str, label: str, shards: int = 2) -> None:
    """Write shards as Hugging Face names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, rows in enumerate(np.array_split(np.arange(len(arrays[1])), shards)):
        encoded = [{"bytes": png(arrays[0][row]), "path": None} for row in rows]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({image: pa.array(encoded, kind), label: arrays[1][rows], "coarse": arrays[1][rows] // 2})
        pq.write_table(table, folder / f"{part}-{shard:05d}-of-{shards:05d}.parquet", row_group_size=7)


def write_cifar(folder: Path, names: list[str], arrays: Arrays, label: str) -> None:
    """Write data batches as CIFAR's are: pickles of protocol 2."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(names, np.array_split(np.arange(len(arrays[1])), len(names)), strict=True):
        batch = {"data": arrays[0][rows].reshape(len(rows), -1), label: arrays[1][rows].tolist(), "batch_label": name}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def write_mat(folder: Path, part: str, arrays: Arrays) -> None:
    """Write an SVHN file, the digit 0 labelled 10."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.where(arrays[1] == 0, 10, arrays[1]).astype(np.uint8)[:, None]
    savemat(folder / f"{part}_32x32.mat", {"X": arrays[0].transpose(2, 3, 1, 0), "y": labels}, do_compression=True)


def write_classes(folder: Path, arrays: Arrays) -> None:
    """Write one folder of images per class."""
    for number, (image, label) in enumerate(zip(*arrays, strict=True)):
        place = folder / f"class_{label}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:04d}.png").write_bytes(png(image))


def _mnist(name: str, packed: bool) -> Callable[[Path, Arrays, Arrays], None]:
    def write(root: Path, train: Arrays, test: Arrays) -> None:
        write_idx(root / name, "train", train, packed=packed)
        write_idx(root / name, "t10k", test, packed=packed)

    return write


def _parquet(image: str, label: str, below: str = "") -> Callable[[Path, Arrays, Arrays], None]:
    def write(root: Path, train: Arrays, test: Arrays) -> None:
        write_parquet(root / below, "train", train, image, label)
        write_parquet(root / below, "test", test, image, label, shards=1)

    return write


def _cifar(name: str, train_names: list[str], test_name: str, label: str) -> Callable[[Path, Arrays, Arrays], None]:
    def write(root: Path, train: Arrays, test: Arrays) -> None:
        write_cifar(root / name, train_names, train, label)
        write_cifar(root / name, [test_name], test, label)

    return write


def _svhn(root: Path, train: Arrays, test: Arrays) -> None:
    write_mat(root, "train", train)
    write_mat(root, "test", test)


def _folders(root: Path, train: Arrays, test: Arrays) -> None:
    write_classes(root / "train", train)
    write_classes(root / "val", test)


GREY, COLOUR = (1, 28, 28), (3, 32, 32)
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
LAYOUTS: dict[str, tuple[str, tuple[int, int, int], Callable[[Path, Arrays, Arrays], None]]] = {
    "mnist-torchvision": ("mnist", GREY, _mnist("MNIST/raw", packed=False)),
    "mnist-idx": ("mnist", GREY, _mnist("", packed=True)),
    "mnist-parquet": ("mnist", GREY, _parquet("image", "label", "mnist")),
    "fashion-torchvision": ("fashion_mnist", GREY, _mnist("FashionMNIST/raw", packed=False)),
    "fashion-idx": ("fashion_mnist", GREY, _mnist("", packed=True)),
    "cifar10-torchvision": ("cifar10", COLOUR, _cifar("cifar-10-batches-py", BATCHES, "test_batch", "labels")),
    "cifar10-parquet": ("cifar10", COLOUR, _parquet("img", "label", "plain_text")),
    "cifar100-torchvision": ("cifar100", COLOUR, _cifar("cifar-100-python", ["train"], "test", "fine_labels")),
    "cifar100-parquet": ("cifar100", COLOUR, _parquet("img", "fine_label")),
    "svhn-torchvision": ("svhn", COLOUR, _svhn),
    "svhn-parquet": ("svhn", COLOUR, _parquet("image", "label", "cropped_digits")),
    "parquet": ("parquet", (3, 12, 20), _parquet("image", "label")),
    "idx": ("idx", (1, 9, 7), _mnist("", packed=True)),
    "image_folder": ("image_folder", (3, 10, 14), _folders),
}
"""Kind, image shape and writer of every layout."""
TEST_FILE = ("t10k", "test", "val")
"""How the name of a file or of a folder below the root begins where it belongs to the test split."""


def write(layout: str, root: Path) -> tuple[str, Arrays, Arrays]:
    """Write a small data set; return its kind and what is in it."""
    kind, shape, writer = LAYOUTS[layout]
    train, test = made(TRAIN, shape, seed=1), made(TEST, shape, seed=2)
    writer(root, train, test)
    return kind, train, test
