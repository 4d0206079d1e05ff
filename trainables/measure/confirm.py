"""Measure a network with one step of a confirmation: which examples are classified correctly nevertheless.

Everything is exact, as in `trainables.measure.evaluate`. A step draws from generators of its own, so that its result
does not depend on what was measured before, but for the examples that it is run on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from trainables import attacks
from trainables.attacks.eot import Eot
from trainables.attacks.minimal import Minimal, distances
from trainables.core import heartbeat
from trainables.core.errors import SpecError
from trainables.core.rng import derive
from trainables.data.tensors import Split
from trainables.measure.corruptions import corrupted
from trainables.measure.evaluate import chunk_size, classified, exact, frozen
from trainables.method.confirmation import EOT, NOISE_OFF, Step
from trainables.method.protocol import Protocol
from trainables.models.noise import Noise, Noisy
from trainables.store.state import State

if TYPE_CHECKING:
    from trainables.attacks.base import Keep, LogitsFn


class Cancelled(Exception):
    """The step is not to be finished."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network to be confirmed, on its device: with its noise off as `net`, and as it is `measured`.

    The prediction is the majority of `votes` passes; `draws` are these where there is noise, else 0.
    """

    net: nn.Module
    measured: nn.Module
    votes: int
    seed: int
    device: torch.device

    @classmethod
    def of(cls, model: nn.Module, state: State, protocol: Protocol, device: torch.device) -> Subject:
        """Return the network of `model` with the tensors of `state`, with noise if the protocol has it on."""
        net = frozen(model, state, device)
        noise = Noise.of(state.to(device)) if protocol.noise else None
        if noise is None:
            return cls(net, net, 1, protocol.seed, device)
        noisy = Noisy(net, noise, state.to(device).masks)
        return cls(net, noisy, max(protocol.votes, EOT), protocol.seed, device)

    @property
    def draws(self) -> int:
        """The passes of a prediction with noise, 0 without."""
        return self.votes if isinstance(self.measured, Noisy) else 0


@dataclass(frozen=True, eq=False)
class Found:
    """What a step found of the examples it was run on, in their order.

    Shapes: `correct` (N,) bool; `distances` (N,) float64, infinity where nothing was found, None of other attacks.
    """

    correct: np.ndarray
    distances: np.ndarray | None = None

    def followed_by(self, correct: Tensor, distances: Tensor | None) -> Found:
        """Return this with what was found of the next examples. Shapes: (n,)."""
        both = np.concatenate([self.correct, correct.cpu().numpy()])
        if self.distances is None or distances is None:
            return Found(both)
        return Found(both, np.concatenate([self.distances, distances.cpu().numpy()]))


def run(
    subject: Subject,
    step: Step,
    split: Split,
    index: np.ndarray,
    source: nn.Module | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    begun: Found | None = None,
    keep: Callable[[Found], None] = lambda found: None,
) -> Found:
    """Run a step on the examples of the split that `index` (N,) names.

    `source` is the network that `step.source` names, in eval mode on the same device. `keep` is given what was found
    so far after each chunk of examples; with that as `begun`, the step goes on after them, to the same result.

    Raises:
        Cancelled: `cancelled()` turned true.
        SpecError: the attack cannot attack this network, or the source is missing.
    """
    if step.source == NOISE_OFF:
        source = subject.net
    if step.source is not None and source is None:
        raise SpecError(f"{step.name}: the network {step.source} is missing")
    minimal = isinstance(step.attack, Minimal) and source is None
    found = begun or Found(np.zeros(0, dtype=bool), np.zeros(0) if minimal else None)
    with exact(subject.device):
        for first, x, y in _chunks(split, index, subject.device, len(found.correct)):
            if cancelled():
                raise Cancelled(step.name)
            heartbeat.beat()
            verdicts, distance = _chunk(subject, step, x, y, first, source, _watching(cancelled, step))
            found = found.followed_by(verdicts, distance)
            keep(found)
    return found


Watch = Callable[[nn.Module], "LogitsFn"]


def _watching(cancelled: Callable[[], bool], step: Step) -> Watch:
    """Return what makes networks that an attack may be ended in: some take minutes for a chunk."""

    def watch(net: nn.Module) -> LogitsFn:
        def logits(x: Tensor) -> Tensor:
            if cancelled():
                raise Cancelled(step.name)
            found: Tensor = net(x)
            return found

        return logits

    return watch


def _chunks(split: Split, index: np.ndarray, device: torch.device, done: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    size = chunk_size(device)
    for first in range(done, len(index), size):
        part = torch.from_numpy(index[first : first + size]).to(split.y.device)
        x = split.pixels(part).to(device).contiguous(memory_format=torch.channels_last)
        yield first, x, split.y[part].to(device)


def _chunk(
    subject: Subject, step: Step, x: Tensor, y: Tensor, first: int, source: nn.Module | None, watch: Watch
) -> tuple[Tensor, Tensor | None]:
    """Return the verdicts on a chunk, and its distances. Shapes: x (N, C, H, W) in [0, 1]; y and results (N,)."""

    def draws(purpose: str) -> torch.Generator:
        return torch.Generator(x.device).manual_seed(derive("confirm", purpose, step.name, subject.seed, first))

    _redraw(subject, draws("noise"))
    if isinstance(step.attack, Minimal) and source is None:
        distance = distances(step.attack, watch(subject.measured), x, y)
        return distance > float(step.eps) + 1e-9, distance
    if step.attack is not None:
        x = _attacked(subject, step, x, y, draws("attack"), source, watch)
    elif step.corruption is not None:
        x = corrupted(step.corruption, step.severity, x, draws("corruption"))
    # Fresh noise: what an attack found is judged on draws that it has not seen.
    _redraw(subject, draws("verdict"))
    judged, votes = (subject.net, 1) if step.role == "noise_off" else (subject.measured, subject.votes)
    return classified(judged, x, y, votes)[0], None


def _attacked(
    subject: Subject,
    step: Step,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    source: nn.Module | None,
    watch: Watch,
) -> Tensor:
    assert step.attack is not None
    target = subject.measured if source is None else source
    noisy = isinstance(target, Noisy)
    # Neither one lucky draw of the noise nor the first error of another network is the strongest input.
    keep: Keep = "worst" if step.role == "noise_off" or (source is None and not noisy) else "last"
    seen: LogitsFn = Eot(watch(target), EOT) if isinstance(target, Noisy) else watch(target)
    if keep == "worst" and step.attack.sparing:
        everything = torch.ones(len(x), dtype=torch.bool, device=x.device)
        return attacks.hunt(step.attack, seen, x, y, eps=float(step.eps), generator=generator, standing=everything)
    return attacks.run(step.attack, seen, x, y, eps=float(step.eps), generator=generator, keep=keep)


def _redraw(subject: Subject, generator: torch.Generator) -> None:
    if isinstance(subject.measured, Noisy):
        subject.measured.generator = generator
