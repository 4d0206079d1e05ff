"""The measurement that the adversarial pruning benchmark asks for: its images, its attacks, its radius.

It reads the test split in the order of its files. Source: Piras et al. 2024, arXiv:2409.01249, by the code of its
repository, pralab/AdversarialPruningBenchmark, `utils/test.py`.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.attacks.autoattack import AutoAttack
from trainables.attacks.fmn import Fmn
from trainables.attacks.minimal import distances
from trainables.attacks.verdicts import correct
from trainables.core.errors import DataError
from trainables.core.rng import derive
from trainables.core.spec import plain
from trainables.data import DATASETS
from trainables.data.heldout import load_test
from trainables.data.tensors import Split
from trainables.export.saved import network
from trainables.measure.evaluate import exact, pack_verdicts
from trainables.store.state import State
from trainables.worker.points import device_name

EPS = 0.031
"""The radius of AutoAttack there. It is not 8/255."""
CURVE_EPS = 8 / 255
"""The radius at which the accuracy under the minimum-norm attack is read off there."""
EXAMPLES = 10_000
BATCH = 500
CURVE = slice(2048, 2176)
"""The images of the minimum-norm attack: those behind the 32 batches of 64 that the benchmark sets aside for tuning."""
ATTACK = AutoAttack()
NEAREST = Fmn(steps=200, step_sizes=(0.3, 1.0, 3.0, 10.0, 30.0))
"""In the place of tuned hyperparameters: several lengths of the first step; the nearest result counts per image."""


@dataclass(frozen=True)
class Entry:
    """What was measured of a network. Distances are in l_inf, infinite where nothing was found; seconds of work."""

    examples: int
    clean_correct: int
    robust_correct: int
    robust_verdicts: str
    distances: tuple[float, ...]
    first_distance: int
    images_sha256: str
    attack: dict[str, Any]
    nearest: dict[str, Any]
    device: str
    seconds: float

    @property
    def beyond(self) -> int:
        """How many distances are above 8/255."""
        return sum(distance > CURVE_EPS for distance in self.distances)


def measure(
    state: State, card: dict[str, Any], data: Mapping[str, Any], examples: int | None, report: Callable[[str], None]
) -> tuple[Entry, bytes]:
    """Measure the network of a state, and return its checkpoint, too: the tensors without the normalisation in front.

    `card` has the model, shape and classes of `trainables.export.saved`, `data` is the data set's spec.
    With `examples` the first so many test images stand for the 10,000, and up to 128 of them for those of the
    minimum-norm attack.

    Raises:
        DataError: test files are missing, damaged or too few.
        SpecError: the package pyautoattack is not installed.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = network("", state, card).to(device)
    split = load_test(DATASETS.parse(dict(data)), device, in_file_order=True)
    count = EXAMPLES if examples is None else min(examples, EXAMPLES)
    curve = CURVE if examples is None else slice(0, min(examples, CURVE.stop - CURVE.start))
    if len(split) < max(count, curve.stop):
        raise DataError(f"the benchmark measures {count} test images, but {data['kind']} has {len(split)} here")
    started = time.monotonic()
    with exact(device):
        clean, robust = _attacked(net, split, count, report)
        nearest = _nearest(net, split, curve, report)
    entry = Entry(
        examples=count,
        clean_correct=int(clean.sum()),
        robust_correct=int(robust.sum()),
        robust_verdicts=pack_verdicts(robust.numpy()),
        distances=tuple(nearest.tolist()),
        first_distance=curve.start,
        images_sha256=_identity(split, count),
        attack={**plain(ATTACK), "eps": EPS, "batch": BATCH},
        nearest=plain(NEAREST),
        device=device_name(device),
        seconds=time.monotonic() - started,
    )
    return entry, _checkpoint(state)


def _attacked(net: nn.Module, split: Split, count: int, report: Callable[[str], None]) -> tuple[Tensor, Tensor]:
    """Return which images are correct clean, and which stand AutoAttack as well, both (count,) on the CPU."""
    clean, robust = [], []
    for first in range(0, count, BATCH):
        part = slice(first, min(first + BATCH, count))
        x, y = split.pixels(part), split.y[part]
        generator = torch.Generator(x.device).manual_seed(derive("benchmark entry", first))
        right = _correct(net, x, y)
        found = ATTACK.original(net, x, y, eps=EPS, generator=generator) if right.any() else x
        clean.append(right.cpu())
        robust.append((right & _correct(net, found, y)).cpu())
        stand, seen = int(torch.cat(robust).sum()), part.stop
        report(f"AutoAttack: {seen:,} of {count:,} images, {100 * stand / seen:.2f} % robust so far")
    return torch.cat(clean), torch.cat(robust)


def _correct(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return correct(net(x), y)


def _nearest(net: nn.Module, split: Split, curve: slice, report: Callable[[str], None]) -> np.ndarray:
    found = distances(NEAREST, net, split.pixels(curve), split.y[curve])
    report(f"{NEAREST.label}: the distances of {len(found)} images")
    return found.cpu().numpy()


def _identity(split: Split, count: int) -> str:
    content = hashlib.sha256(split.x[:count].cpu().contiguous().numpy().tobytes())
    content.update(split.y[:count].cpu().numpy().astype("<i8").tobytes())
    return content.hexdigest()


def _checkpoint(state: State) -> bytes:
    """Return the tensors as a file of torch, under the names of the base nets: without the prefix of ours."""
    tensors = {**state.params, **state.buffers}
    named = {
        name.removeprefix("net."): tensor.detach().cpu().contiguous()
        for name, tensor in tensors.items()
        if name.startswith("net.")
    }
    file = io.BytesIO()
    torch.save({"state_dict": named}, file)
    return file.getvalue()
