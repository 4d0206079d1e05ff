"""The epoch that is a training's result: the most robust one on images that it is not trained on.

Adversarial training overfits: after the learning rate has fallen, robust accuracy on new images falls while that on the
trained ones rises. Source: Rice, Wong & Kolter 2020, arXiv:2002.11569. In training against a single step it may fall to
nothing within an epoch; some epochs against a stronger attack bring it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables import attacks
from trainables.attacks.base import Attack
from trainables.attacks.verdicts import correct
from trainables.core.errors import SpecError
from trainables.core.rng import generator
from trainables.data.splits import quotas
from trainables.data.tensors import Split
from trainables.mask_updates.base import EpochResult
from trainables.method.training import Training
from trainables.store.state import State, Tensors, duplicate

BATCH = 500
EPOCH, ROBUST = "selected_epoch", "selected_robust_accuracy"
COLLAPSE = 0.5
"""An epoch whose robust accuracy is below this share of the highest one may be a collapse, which the guard ends."""
_RESULTS = "select"
_BEST = "best."


def collapsed(results: Sequence[EpochResult]) -> bool:
    """Return whether the network is collapsed after the last of these epochs.

    It begins with an epoch after which the network withstands the attack that it is trained with, but not that of the
    selection: where training prunes, or fails, both accuracies fall. It ends once half of the best robustness is back.
    """
    highest, found = 0.0, False
    for result in results:
        highest = max(highest, result.robust)
        low = result.robust < COLLAPSE * highest
        found = low and (found or result.robust < COLLAPSE * result.trained)
    return found


@dataclass(frozen=True)
class HeldBack:
    """What the images held back gave after an epoch: accuracies of `examples` images."""

    examples: int
    clean_accuracy: float
    robust_accuracy: float


def held_back(split: Split, images: int) -> tuple[Split, Split]:
    """Split off the last `images` images, each class in proportion: files may be sorted by class.

    Raises:
        SpecError: none would be left to train on.
    """
    if images >= len(split):
        raise SpecError(f"train.select holds back {images} of {len(split)} training images, which leaves none")
    if not images:
        return split, Split(split.x[:0], split.y[:0], split.scale)
    labels = split.y.cpu().numpy()
    held_out = torch.zeros(len(split), dtype=torch.bool)
    for label, share in enumerate(quotas(np.bincount(labels), images)):
        held_out[np.flatnonzero(labels == label)[::-1][:share].copy()] = True
    parts = ((split.x[which.to(split.x.device)], split.y[which.to(split.y.device)]) for which in (~held_out, held_out))
    rest, last = (Split(x, y, split.scale) for x, y in parts)
    return rest, last


class Selection:
    """The results of a training's epochs on the images held back, and the best state so far."""

    def __init__(
        self, training: Training, held_out: Split, key: str, device: torch.device, memory: torch.memory_format
    ) -> None:
        self._training, self._held, self._key = training, held_out, key
        self._device, self._format = device, memory
        self.results: list[EpochResult] = []
        self.latest: HeldBack | None = None
        """What the last epoch gave that this process measured."""
        self._chosen: EpochResult | None = None
        self._best: State | None = None

    def measure(self, epoch: int, model: nn.Module, state: State, trained: float, *, eligible: bool = True) -> None:
        """Measure the network that would be the training's result after `epoch` epochs; `model` is left as it is.

        `trained` is the accuracy on the attacked images that it was trained on. Of equally robust epochs the first is
        kept.
        """
        if not len(self._held):
            return
        net = state.into(duplicate(model)).eval().requires_grad_(False)
        clean, robust, loss = self._measured(net)
        self.latest = HeldBack(len(self._held), clean, robust)
        result = EpochResult(epoch, trained, robust, loss)
        self.results.append(result)
        if eligible and (self._chosen is None or result.robust > self._chosen.robust):
            self._chosen, self._best = result, state

    def _measured(self, net: nn.Module) -> tuple[float, float, float]:
        """Return clean and robust accuracy and the mean loss on the images held back.

        They are attacked with the same draws in each epoch.
        """
        unattacked, right, loss = 0, 0, 0.0
        for start in range(0, len(self._held), BATCH):
            part = slice(start, start + BATCH)
            x = self._held.pixels(part).to(self._device).contiguous(memory_format=self._format)
            y = self._held.y[part].to(self._device)
            draws = generator(self._key, 0, f"select-{start}", self._device)
            eps = float(self._training.eps)
            found = attacks.run(self._training.select_attack, net, x, y, eps=eps, generator=draws)
            with torch.no_grad():
                logits, clean = net(found).float(), net(x)
            unattacked += int(correct(clean, y).sum())
            right += int((correct(logits, y) & correct(clean, y)).sum())
            loss += float(F.cross_entropy(logits, y, reduction="sum"))
        return unattacked / len(self._held), right / len(self._held), loss / len(self._held)

    def handed_on(self, state: State) -> State:
        """Return the state of the chosen epoch with its number in the history, or `state` where none is chosen."""
        if self._best is None or self._chosen is None:
            return state
        chosen = {EPOCH: self._chosen.epoch, ROBUST: self._chosen.robust}
        notes = {name: torch.tensor([value], dtype=torch.float64) for name, value in chosen.items()}
        return replace(self._best, history={**state.history, **notes})

    @property
    def attack(self) -> Attack:
        """The attack of the next epoch: the guard's after a collapse."""
        guard = self._training.guard
        if guard is not None and collapsed(self.results):
            return guard
        return self._training.attack

    def checkpoint(self) -> dict[str, Tensors]:
        """Return all tensors that the next epoch depends on."""
        if not self.results:
            return {}
        rows = torch.tensor([astuple(result) for result in self.results], dtype=torch.float64)
        at = -1 if self._chosen is None else self.results.index(self._chosen)
        groups: dict[str, Tensors] = {_RESULTS: {"looks": rows, "chosen": torch.tensor(at)}}
        if self._best is not None:
            groups |= {f"{_BEST}{group.name}": getattr(self._best, group.name) for group in fields(State)}
        return groups

    def load(self, checkpoint: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore what `checkpoint` returned."""
        if (kept := checkpoint.get(_RESULTS)) is None:
            return
        self.results = [EpochResult(*row) for row in kept["looks"].tolist()]
        if (at := int(kept["chosen"])) >= 0:
            self._chosen = self.results[at]
            groups = {group.name: dict(checkpoint.get(f"{_BEST}{group.name}", {})) for group in fields(State)}
            self._best = State(**groups).to(self._device)
