"""Data as tensors on one device: the images that a trial is trained and measured on during the search."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from trainables.core import heartbeat
from trainables.core.errors import DataError
from trainables.data import repeats
from trainables.data.base import Data
from trainables.data.cache import Described, training
from trainables.data.content import readable
from trainables.data.splits import carve, check_classes, limited


@dataclass(frozen=True)
class Split:
    """Labelled images as stored.

    Shapes: x (N, C, H, W) uint8, y (N,) int64. A stored value of `scale` is a pixel of 1.
    """

    x: Tensor
    y: Tensor
    scale: float

    def __len__(self) -> int:
        return len(self.y)

    def pixels(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Return images as pixels. Shapes: (N, C, H, W) float32 in [0, 1]."""
        return as_pixels(self.x[index], self.scale)


@dataclass(frozen=True)
class TrainingData:
    """The training files, split.

    `shape` is (C, H, W); `mean` and `std` are those of the training split's pixels, per channel.
    `validation` is in random order, so its first images are a fair sample. `fingerprint` hashes
    all training images and labels, `split_hash` the indices of the validation images among them. `class_names` has the
    name of each class; `notes` are lines about images that are not used, or that are there several times.
    """

    train: Split
    validation: Split
    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    split_hash: str
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def as_pixels(x: Tensor, scale: float) -> Tensor:
    """Convert stored values to float32 pixels in [0, 1] of the same shape and memory format."""
    return x.to(torch.float32).div_(scale)


def to_split(images: np.ndarray, labels: np.ndarray, scale: float, device: torch.device | str) -> Split:
    """Move arrays to a device; on the CPU the split shares their memory.

    Shapes: images (N, C, H, W) uint8, labels (N,) int64.
    """
    return Split(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device), scale)


def load(spec: Data, device: torch.device | str = "cpu") -> TrainingData:
    """Read the training files and draw the validation split; the last two results stay in memory.

    Raises:
        DataError: files are missing or damaged.
        SpecError: the validation split or the limit asks for more images than there are.
    """
    return _load(spec, torch.device(device))


@lru_cache(maxsize=2)
def _load(spec: Data, device: torch.device) -> TrainingData:
    (images, labels), described = training(spec)
    found = described.fingerprint
    left, validation = carve(labels, spec.validation, spec.split_seed)
    trained = limited(labels, left, spec.limit, spec.split_seed)
    check_classes(labels, validation, trained, spec.limit, described.classes.names)
    unused = len(left) - len(trained)
    limited_to = [f"{unused} of {len(left)} training images not used: `limit` is {spec.limit}"] if unused else []
    notes = (*described.notes, *limited_to, *_repeated(spec, described, trained, validation))
    kept = np.ascontiguousarray(images[trained])
    mean, std = statistics(kept, spec.scale)
    return TrainingData(
        train=to_split(kept, labels[trained], spec.scale, device),
        validation=to_split(images[validation], labels[validation], spec.scale, device),
        classes=found.classes,
        shape=found.shape,
        mean=mean,
        std=std,
        fingerprint=found.sha256,
        split_hash=hashlib.sha256(validation.astype("<i8").tobytes()).hexdigest(),
        class_names=described.classes.names,
        notes=notes,
    )


def _repeated(spec: Data, described: Described, trained: np.ndarray, validation: np.ndarray) -> Iterator[str]:
    """Yield a line about images on both sides of the split.

    Raises:
        DataError: there are too many.
    """
    both = repeats.across(described.repeats, trained, validation)
    if not both:
        return
    what = f"{len(both)} of {len(validation)} validation images equal an image that is trained on"
    if repeats.too_many(len(both), len(validation)) and spec.duplicates == "refuse":
        files = spec.training_files()
        named = len(files) == described.fingerprint.images
        first = [str(files[row]) if named else f"image {row}" for row in both[0]]
        raise DataError(
            f"{spec.kind}: {what}, such as {readable(first[0])} and {readable(first[1])}: accuracies would be too "
            "high. Remove the copies, or set `duplicates: allow` if images of this kind are often equal"
        )
    yield what


def statistics(images: np.ndarray, scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the pixels per channel; a constant channel has the deviation 1.

    Counted in integers, so the numbers are the same on every machine and with any number of threads.
    Shapes: images (N, C, H, W) uint8. Units: pixels in [0, 1].
    """
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].reshape(-1), minlength=256).tolist()
        n = sum(counts)
        total = sum(value * count for value, count in enumerate(counts))
        squares = sum(value * value * count for value, count in enumerate(counts))
        variance = (n * squares - total * total) / (n * n)
        means.append(total / n / scale)
        deviations.append(variance**0.5 / scale if variance else 1.0)
    return tuple(means), tuple(deviations)


def batch_sizes(n: int, batch: int, *, none_of_one: bool = False) -> list[int]:
    """Return the sizes of the batches of `n` images: `batch` each, and what is left.

    With `none_of_one` a last image that would be alone joins the batch before it.
    """
    sizes = [min(batch, n - start) for start in range(0, n, batch)]
    if none_of_one and len(sizes) > 1 and sizes[-1] == 1 < batch:
        sizes[-2:] = [batch + 1]
    return sizes


def batches(n: int, batch: int, generator: torch.Generator, *, none_of_one: bool = False) -> Iterator[Tensor]:
    """Yield the indices of `n` images in the generator's order, in batches of the sizes of `batch_sizes`."""
    order = torch.randperm(n, generator=generator, device=generator.device)
    for part in torch.split(order, batch_sizes(n, batch, none_of_one=none_of_one)):
        heartbeat.beat()
        yield part
