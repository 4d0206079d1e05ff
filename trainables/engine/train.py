"""Train a network for the epochs of one phase, yielding an `Epoch` after each.

What an epoch does is a function of the phase's spec, its key, the epoch's number and the tensors at its
start: the order of images, augmentation and attack draw from generators of their own (`rng.generator`),
learning rate and radius are pure functions of the epoch. So a training that is resumed from a
checkpoint equals an uninterrupted one bit for bit on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from trainables.core.errors import SpecError
from trainables.data.tensors import TrainingData
from trainables.engine.cuda_graphs import Recorder
from trainables.engine.epoch import Checkpoint, Epoch
from trainables.engine.training_run import TrainingRun
from trainables.method.phases import Train
from trainables.models.graph.smaller import Smaller, cuts_filters
from trainables.store.state import State, Tensors


def train(
    model: nn.Module,
    state: State,
    phase: Train,
    data: TrainingData,
    *,
    key: str,
    device: torch.device | str,
    resume: tuple[int, Checkpoint] | None = None,
    recorder: Recorder | None = None,
) -> Iterator[Epoch]:
    """Train epochs `phase.start` to `phase.end` from `state`, or resume after the completed epochs of `resume`.

    `model` is a scratch model: its weights are overwritten, and moved to `device`. Weights whose mask is False are
    exactly 0 after every step, in the averaged weights too. Batch norm's statistics are moved by the training
    forward alone; the attack sees the network in eval mode, with running statistics. A phase that is `shrunk` trains
    the network without filters that are pruned whole, where that can be done; states and checkpoints are of the full
    network. Steps are replayed with `recorder`, by default with what `trainables.engine.cuda_graphs.recorder_for`
    returns.

    Raises:
        Diverged: the loss or a weight is no longer finite.
    """
    smaller, size = _smaller(model, state, phase, data)
    on = torch.device(device)
    if smaller is None:
        run = TrainingRun(model, state, phase, data, key, on, recorder)
        yield from (replace(epoch, size=size) for epoch in run.epochs(resume))
        return
    if resume is not None:
        resume = resume[0], _cut(resume[1], smaller)
    run = TrainingRun(smaller.model, smaller.cut_state(state), phase, data, key, on, recorder, smaller.whole)
    for epoch in run.epochs(resume):
        yield _whole(epoch, smaller, size)


def _smaller(model: nn.Module, state: State, phase: Train, data: TrainingData) -> tuple[Smaller | None, str]:
    """Return the network that is left where filters are pruned whole, None where it stays, and what to say of that."""
    if not phase.shrunk:
        cut = phase.whole_because is not None and cuts_filters(state)
        return None, f"with all pruned filters: {phase.whole_because}" if cut else ""
    try:
        smaller = Smaller(model, state, data.shape)
    except SpecError as reason:
        return None, f"with all pruned filters: {reason}"
    return smaller, f"without pruned filters, {100 * smaller.share:.1f} % of the multiply-accumulates"


def _whole(epoch: Epoch, smaller: Smaller, size: str) -> Epoch:
    """Return an epoch of the smaller network as one of the full network."""

    def checkpoint() -> dict[str, Tensors]:
        groups = epoch.checkpoint()
        return {name: smaller.whole(group) if _of_network(name) else group for name, group in groups.items()}

    return replace(epoch, state=lambda: smaller.whole_state(epoch.state()), checkpoint=checkpoint, size=size)


def _cut(checkpoint: Checkpoint, smaller: Smaller) -> Checkpoint:
    """Return a checkpoint of the full network as one of the smaller network."""
    groups = {name: smaller.cut(group) if _of_network(name) else group for name, group in checkpoint.items()}
    with_buffers = [name for name in ("buffers", "average") if groups.get(name)]
    return {**groups, **{name: {**groups[name], **smaller.derived} for name in with_buffers}}


def _of_network(group: str) -> bool:
    """Return whether a group of tensors in a checkpoint has the names of the network's own."""
    return group.rpartition(".")[2] in ("params", "buffers", "masks", "average", "optimiser")
