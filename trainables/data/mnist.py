"""MNIST and Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

from trainables.data.files import FileData, Layout, Part
from trainables.data.idx import IdxLayout
from trainables.data.parquet import ParquetLayout


class Mnist(FileData):
    """Handwritten digits: 70,000 grey images of 28x28 pixels, of which 10,000 are the test split."""

    kind: Literal["mnist"] = "mnist"
    shape: ClassVar[tuple[int, int, int] | None] = (1, 28, 28)
    classes: ClassVar[int | None] = 10
    training_images: ClassVar[int | None] = 60_000
    test_images: ClassVar[int | None] = 10_000

    def layouts(self) -> tuple[Layout, ...]:
        return (IdxLayout("MNIST/raw"), IdxLayout(), ParquetLayout(channels=1))

    def fetcher(self) -> Callable[[Path, Part], None]:
        return _fetch_mnist


class FashionMnist(FileData):
    """Articles of clothing: 70,000 grey images of 28x28 pixels, of which 10,000 are the test split."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    shape: ClassVar[tuple[int, int, int] | None] = (1, 28, 28)
    classes: ClassVar[int | None] = 10
    class_names: ClassVar[tuple[str, ...]] = (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )
    training_images: ClassVar[int | None] = 60_000
    test_images: ClassVar[int | None] = 10_000

    def layouts(self) -> tuple[Layout, ...]:
        return (IdxLayout("FashionMNIST/raw"), IdxLayout(), ParquetLayout(channels=1))

    def system_folders(self) -> tuple[Path, ...]:
        # Where Debian's package dataset-fashion-mnist installs the idx files.
        return (Path("/usr/share/datasets/fashion-mnist"),)

    def fetcher(self) -> Callable[[Path, Part], None]:
        return _fetch_fashion_mnist


def _fetch_mnist(root: Path, part: Part) -> None:
    from torchvision.datasets import MNIST

    MNIST(str(root), train=True, download=True)


def _fetch_fashion_mnist(root: Path, part: Part) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(str(root), train=True, download=True)
