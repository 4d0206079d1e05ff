"""What one epoch of training gave, and what is kept of it to resume there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from trainables.core.precision import Resolved
from trainables.engine.selection import HeldBack
from trainables.store.state import State, Tensors

Checkpoint = Mapping[str, Tensors]


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training gave.

    `epoch` counts the completed ones. `loss` and `accuracy` are means over the images trained on (the
    adversarial ones, if any), as the weights were at each step; `lr` and `eps` are those of the last
    step. `state()` copies what would be the phase's result now, `checkpoint()` all that is needed to resume
    here; both must be called before the next epoch begins. `images` are those trained on; `validation_loss` is the last
    one that was measured within the epoch, `held_back` what the images of `train.select` gave after it. `size` says, of
    a network with filters that are pruned whole, whether it was trained without them, or why not. `replayed` steps of
    the phase so far were replayed (`trainables.engine.cuda_graphs`), or `not_replayed` says why none can be.

    Units: eps in pixel units of [0, 1].
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    lr: float
    eps: float
    seconds: float
    precision: Resolved
    state: Callable[[], State] = field(repr=False, compare=False)
    checkpoint: Callable[[], dict[str, Tensors]] = field(repr=False, compare=False)
    images: int = 0
    validation_loss: float | None = None
    held_back: HeldBack | None = None
    size: str = ""
    replayed: int = 0
    not_replayed: str | None = None
