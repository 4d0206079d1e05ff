"""The base of data sets: specs that read their training files."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainables.core.errors import DataError
from trainables.core.spec import MAX_SEED, Spec, located

if TYPE_CHECKING:
    import numpy as np

    Arrays = tuple[np.ndarray, np.ndarray]
    """Images (N, C, H, W) uint8 and labels (N,) int64."""


class Data(Spec):
    """Base of every data set."""

    kind: str
    # No part of a key: the content's fingerprint is.
    root: str | None = Field(
        default=None,
        description="folder of the files; by default the folder named after the kind below the environment variable "
        "ROBUSTSEARCH_DATA, else below ./data",
        json_schema_extra={"hashed": False},
    )
    download: bool = Field(default=False, description="download missing files", json_schema_extra={"hashed": False})
    validation: int = Field(
        default=5000, gt=0, description="number of training images in the validation split, each class in proportion"
    )
    split_seed: int = Field(default=0, ge=0, le=MAX_SEED, description="seed of the validation split and of `limit`")
    limit: int | None = Field(
        default=None,
        gt=0,
        description="number of images to train on, drawn from each class in proportion; by default all that the "
        "validation split leaves",
    )
    select: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="labels of the images to use; classes are numbered in this order; by default all"
    )

    duplicates: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="what to do if more than 1 % of the validation images equal an image that is trained on",
        json_schema_extra={"hashed": False},
    )

    @model_validator(mode="after")
    def _selects_classes(self) -> Self:
        if self.select and len(set(self.select)) != max(2, len(self.select)):
            raise located("select takes two or more different labels", "select", value=self.select)
        return self

    shape: ClassVar[tuple[int, int, int] | None] = None
    """Channels, height and width of the images where they are known beforehand."""
    classes: ClassVar[int | None] = None
    """The number of classes where it is known beforehand; else that of the labels, which are numbered from 0."""
    class_names: ClassVar[tuple[str, ...]] = ()
    """The names of the classes where they are known beforehand; by default those in the files, else the labels."""
    training_images: ClassVar[int | None] = None
    """The number of training images where it is known beforehand."""
    test_images: ClassVar[int | None] = None
    """The number of test images where it is known beforehand."""

    @abstractmethod
    def read_training(self) -> Arrays:
        """Read the training files, all of them and no others.

        A `trainables.data.content.Content` is a pair of arrays with names of classes and notes about images not used.

        Raises:
            DataError: files are missing (the message says which, and where) or damaged.
        """

    def read_test(self) -> Arrays:
        """Read the test files. Only `trainables.data.heldout` may call this; a search does without.

        Raises:
            DataError: files are missing (the message says which, and where) or damaged, or there is no test split.
        """
        raise DataError(_no_test_split(self.kind))

    def check_test(self) -> None:
        """Refuse a data set that has no test split, or whose test files are missing on this machine; nothing is read.

        Raises:
            DataError: with what is missing.
        """
        if type(self).read_test is Data.read_test:
            raise DataError(_no_test_split(self.kind))

    def training_files(self) -> tuple[Path, ...]:
        """Return the files that `read_training` reads; its result is cached until one of them changes.

        Without files (the default) nothing is cached.

        Raises:
            DataError: files are missing.
        """
        return ()

    def arrays_code(self) -> str:
        """Return Python without robustsearch that makes `images` and `labels` as a study numbers them, from `np`.

        Empty where the images are in files of their own, whose order says it.
        """
        return ""

    def count_training(self) -> int | None:
        """Count the training images before `select`, if that is possible without decoding them.

        Raises:
            DataError: files are missing or damaged.
        """
        return self.training_images

    def count_test(self) -> int | None:
        """Count the test images before `select`, if that is possible without decoding or downloading them.

        Raises:
            DataError: a file is damaged.
        """
        return self.test_images

    def unused_files(self) -> tuple[str, ...]:
        """Return lines about training files that are not used, as far as their names tell.

        Raises:
            DataError: files are missing.
        """
        return ()

    def located(self) -> Self:
        """Return the same data with `root` made absolute, for a process with another current directory.

        Raises:
            DataError: files are missing.
        """
        return self

    @property
    def scale(self) -> float:
        """The stored value of a pixel of 1."""
        return 255.0


def trained_on(spec: Data, images: int | None = None) -> int | None:
    """Return the number of images to train on; None where it is not known.

    `images` is the number of training images of the selected classes; by default the known one of all classes.
    """
    if spec.limit is not None:
        return spec.limit
    if images is None:
        images = None if spec.select else spec.training_images
    return None if images is None else images - spec.validation


def wrong_sizes(spec: Data, images: int) -> tuple[str, str] | None:
    """Return which field asks for more than `images` training images, and a message; None where none does."""
    left = images - spec.validation
    if left <= 0:
        return "validation", f"validation: {spec.validation} of {images} training images leaves none to train on"
    if spec.limit is not None and spec.limit > left:
        return "limit", f"limit: {spec.limit}, but only {left} images are left after the validation split"
    return None


def _no_test_split(kind: str) -> str:
    return f"the data set {kind} has no test split; define `read_test` to confirm results on one"
