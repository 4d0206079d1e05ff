"""What a data set is: a spec that reads its training files."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from trainables.core.spec import Spec, located

if TYPE_CHECKING:
    import numpy as np

    Arrays = tuple[np.ndarray, np.ndarray]
    """Images (N, C, H, W) uint8 and labels (N,) int64."""


class Data(Spec):
    """Base of every data set spec.

    `root` is where the files are and is no part of a key (the content's fingerprint is); without it
    they are looked for in the folder named after the kind below the environment variable
    `ROBUSTSEARCH_DATA`, else below `./data`. `validation` images are carved from the training files,
    stratified by class, with `split_seed`; `limit` keeps so many of the images left for training,
    drawn from each class in proportion, with the same seed. `select` keeps the images with these labels alone, and
    numbers the classes anew in this order.
    """

    kind: str
    root: str | None = Field(default=None, json_schema_extra={"hashed": False})
    download: bool = Field(default=False, json_schema_extra={"hashed": False})
    validation: int = Field(default=5000, gt=0)
    split_seed: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, gt=0)
    select: tuple[Annotated[int, Field(ge=0)], ...] = ()

    @model_validator(mode="after")
    def _selects_classes(self) -> Self:
        if self.select and len(set(self.select)) != max(2, len(self.select)):
            raise located("select takes two or more different labels", "select", value=self.select)
        return self

    classes: ClassVar[int | None] = None
    """The number of classes where it is known beforehand; else it is one more than the largest label."""

    @abstractmethod
    def read_training(self) -> Arrays:
        """Read the training files, all of them and no others.

        Raises:
            DataError: files are missing (the message says which, and where) or damaged.
        """

    @abstractmethod
    def read_test(self) -> Arrays:
        """Read the test files. Only `trainables.data.heldout` may call this.

        Raises:
            DataError: files are missing (the message says which, and where) or damaged.
        """

    def training_files(self) -> tuple[Path, ...]:
        """Return the files that `read_training` reads; what it gave is cached until one of them changes.

        Without any (the default) nothing is cached.

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
        """The stored value that stands for a pixel of 1."""
        return 255.0
