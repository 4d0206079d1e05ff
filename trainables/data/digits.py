"""The 8x8 digits that scikit-learn ships."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainables.core.errors import DataError
from trainables.core.rng import derive
from trainables.data.base import Data

if TYPE_CHECKING:
    import numpy as np

    from trainables.data.base import Arrays


_ARRAYS = """\
from sklearn.datasets import load_digits

pixels, labels = load_digits(return_X_y=True)
shuffled = np.random.default_rng({seed}).permutation(len(labels))
shares = {shares}  # images of each class in the test split
test = np.concatenate([shuffled[labels[shuffled] == label][:share] for label, share in enumerate(shares)])
training = np.setdiff1d(np.arange(len(labels)), test)
images, labels = pixels[training].astype(np.uint8).reshape(-1, 1, 8, 8), labels[training]
"""
_SELECTED = """\
chosen = {chosen}
images, labels = images[np.isin(labels, chosen)], labels[np.isin(labels, chosen)]
labels = np.array([chosen.index(label) for label in labels])
"""


class Digits(Data):
    """1,797 grey images of 8x8 pixels, 10 classes, pixel values 0 to 16; a fixed stratified fifth is the test split."""

    kind: Literal["digits"] = "digits"
    validation: int = Field(
        default=300, gt=0, description="number of training images in the validation split, each class in proportion"
    )
    shape: ClassVar[tuple[int, int, int] | None] = (1, 8, 8)
    classes: ClassVar[int | None] = 10
    training_images: ClassVar[int | None] = 1438
    test_images: ClassVar[int | None] = 359

    def read_training(self) -> Arrays:
        images, labels, test = _read(self)
        return images[~test], labels[~test]

    def read_test(self) -> Arrays:
        images, labels, test = _read(self)
        return images[test], labels[test]

    def training_files(self) -> tuple[Path, ...]:
        found = find_spec("sklearn")
        if found is None or found.origin is None:
            return ()
        path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
        return (path,) if path.is_file() else ()

    def arrays_code(self) -> str:
        import numpy as np

        from trainables.data.splits import quotas

        labels = _read(self)[1]
        shares = quotas(np.bincount(labels), len(labels) // 5).tolist()
        return _ARRAYS.format(seed=derive("digits", "test"), shares=shares) + (
            _SELECTED.format(chosen=list(self.select)) if self.select else ""
        )

    @property
    def scale(self) -> float:
        return 16.0


def _read(spec: Digits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all images, their labels, and which of them are the test split."""
    import gzip

    import numpy as np

    from trainables.data.splits import draw

    if not (files := spec.training_files()):
        raise DataError("digits: the images come with scikit-learn, which is not installed: pip install scikit-learn")
    # Not read by `load_digits`: importing it takes a second in every worker.
    with gzip.open(files[0], "rt") as lines:
        rows = np.loadtxt(lines, delimiter=",")
    images = rows[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = rows[:, -1].astype(np.int64)
    test = np.zeros(len(labels), bool)
    test[draw(labels, len(labels) // 5, "digits", "test")] = True
    return images, labels, test
