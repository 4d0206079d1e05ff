"""The loss on validation images while a network trains: recorded, so that it can be asked when it was lowest."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.attacks.base import LogitsFn
from trainables.data.tensors import Split
from trainables.losses.base import Adversary
from trainables.method.phases import Train
from trainables.store.state import Tensors

BATCH = 500

STEP, EPOCH, LOSS = "step", "epoch", "loss"
"""The vectors of a history, an entry for each measurement: steps and epochs trained before it, and the loss."""


class Validation:
    """The history of one training, a part of its checkpoint."""

    def __init__(
        self, phase: Train, split: Split, device: torch.device, memory: torch.memory_format = torch.contiguous_format
    ) -> None:
        self._training = phase.training
        self._images = min(self._training.validate_on, len(split))
        self._split, self._device, self._format = split, device, memory
        self._losses: list[tuple[float, float, float]] = []

    def due(self, step: int, steps: int) -> bool:
        """Return whether the loss is measured after step `step`, counted from 0, of an epoch of `steps`."""
        if not self._images:
            return False
        every = self._training.validate_every
        return step + 1 == steps if every is None else step % every == 0

    def loss(self, forward: LogitsFn, adversary: Adversary) -> float:
        """Return the mean training loss of the images, with smoothed labels and attacked as in training.

        `forward` is the network in eval mode.
        """
        total = torch.zeros((), device=self._device)
        with torch.no_grad():
            for start in range(0, self._images, BATCH):
                part = slice(start, min(start + BATCH, self._images))
                x = self._split.pixels(part).to(self._device).contiguous(memory_format=self._format)
                y = self._split.y[part].to(self._device)
                settings = self._training
                found = settings.loss.terms(forward, adversary, x, y, settings.label_smoothing)
                total += found.loss * len(y)
        return float(total) / self._images

    def note(self, step: int, steps: int, loss: float) -> None:
        """Record the loss after `step` steps of a training with `steps` steps an epoch."""
        self._losses.append((step, step / steps, loss))

    def latest(self, after: int) -> float | None:
        """Return the last loss, None where none was measured after step `after`."""
        return self._losses[-1][2] if self._losses and self._losses[-1][0] > after else None

    def history(self) -> Tensors:
        """Return the losses so far; empty where none is measured."""
        if not self._images:
            return {}
        columns = torch.tensor(self._losses, dtype=torch.float64).reshape(-1, 3).unbind(dim=1)
        return {name: column.clone() for name, column in zip((STEP, EPOCH, LOSS), columns, strict=True)}

    def load(self, checkpoint: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore the history of a checkpoint."""
        if kept := checkpoint.get("history"):
            self._losses = list(zip(*(kept[name].tolist() for name in (STEP, EPOCH, LOSS)), strict=True))
