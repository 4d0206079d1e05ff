"""CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Literal

from trainables.core.errors import DataError
from trainables.data.files import FileData, Layout, Part, refuse_equal
from trainables.data.parquet import ParquetLayout

if TYPE_CHECKING:
    from trainables.data.base import Arrays

_ALLOWED = {
    (module, name)
    for module, names in {
        "numpy": ("ndarray", "dtype"),
        "numpy.core.multiarray": ("_reconstruct",),
        "numpy._core.multiarray": ("_reconstruct",),
        "_codecs": ("encode",),
    }.items()
    for name in names
}

_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""
"""The fine labels of CIFAR-100."""


class _ArraysOnly(pickle.Unpickler):
    """Reads the pickles of CIFAR, dicts of arrays, and refuses to import anything else."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it imports {module}.{name}, which no data batch needs")
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


@dataclass(frozen=True)
class CifarLayout:
    """The Python version of CIFAR as published and as torchvision keeps it.

    torchvision's own class opens the test batch to check it even when asked for the training
    images, so the batches are read here.
    """

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str

    def files(self, root: Path, part: Part) -> tuple[Path, ...]:
        """Return the batches, all or none."""
        paths = tuple(root / self.folder / name for name in self._names(part))
        return paths if all(path.is_file() for path in paths) else ()

    def expected(self, part: Part) -> str:
        """Name the batches."""
        return ", ".join(f"{self.folder}/{name}" for name in self._names(part)) + " (as torchvision keeps them)"

    def count(self, files: tuple[Path, ...]) -> None:
        """Count nothing: a pickle has to be read whole."""

    def read(self, root: Path, files: tuple[Path, ...]) -> Arrays:
        """Read the batches one after the other."""
        import numpy as np

        refuse_equal(files)
        images, labels = zip(*(self._batch(path) for path in files), strict=True)
        return np.concatenate(images), np.concatenate(labels)

    def _names(self, part: Part) -> tuple[str, ...]:
        return self.train if part == "train" else self.test

    def _batch(self, path: Path) -> Arrays:
        import numpy as np

        try:
            with path.open("rb") as file:
                batch = _ArraysOnly(file).load()
            return (
                np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32),
                np.asarray(batch[self.labels], np.int64),
            )
        # What a damaged pickle raises depends on the byte that is wrong.
        except Exception as error:
            raise DataError(f"{path} is not a CIFAR batch: {type(error).__name__}: {error}") from error


class Cifar10(FileData):
    """60,000 colour images of 32x32 pixels in 10 classes, of which 10,000 are the test split."""

    kind: Literal["cifar10"] = "cifar10"
    shape: ClassVar[tuple[int, int, int] | None] = (3, 32, 32)
    classes: ClassVar[int | None] = 10
    class_names: ClassVar[tuple[str, ...]] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    training_images: ClassVar[int | None] = 50_000
    test_images: ClassVar[int | None] = 10_000

    def layouts(self) -> tuple[Layout, ...]:
        batches = tuple(f"data_batch_{number}" for number in range(1, 6))
        return (CifarLayout("cifar-10-batches-py", batches, ("test_batch",), "labels"), ParquetLayout(channels=3))

    def fetcher(self) -> Callable[[Path, Part], None]:
        return _fetch_cifar10


class Cifar100(FileData):
    """60,000 colour images of 32x32 pixels in 100 classes, of which 10,000 are the test split."""

    kind: Literal["cifar100"] = "cifar100"
    shape: ClassVar[tuple[int, int, int] | None] = (3, 32, 32)
    classes: ClassVar[int | None] = 100
    class_names: ClassVar[tuple[str, ...]] = tuple(_FINE.split())
    training_images: ClassVar[int | None] = 50_000
    test_images: ClassVar[int | None] = 10_000

    def layouts(self) -> tuple[Layout, ...]:
        parquet = ParquetLayout(labels=("fine_label", "label"), channels=3)
        return (CifarLayout("cifar-100-python", ("train",), ("test",), "fine_labels"), parquet)

    def fetcher(self) -> Callable[[Path, Part], None]:
        return _fetch_cifar100


def _fetch_cifar10(root: Path, part: Part) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(str(root), train=True, download=True)


def _fetch_cifar100(root: Path, part: Part) -> None:
    from torchvision.datasets import CIFAR100

    CIFAR100(str(root), train=True, download=True)
