"""The training curves of a trial, from its stored stages: no torch and no plug-in is needed to read them."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.store.curves import EpochValues
from trainables.store.records import PartialMeasurement, TrialRecord
from trainables.store.stages import Stages


@dataclass(frozen=True)
class Partial:
    """A partial measurement of a training: few examples and a short attack, `epoch` epochs into the phase's count."""

    epoch: int
    measured: PartialMeasurement


@dataclass(frozen=True)
class Curve:
    """One training of a trial's chain.

    `phase` is its place in the chain, counted from 0, `kind` what it is (`train`, `imitate`), `key` that of its stage.
    `study` and `trial` have trained it: others that share the stage have the same curve. `before` counts the epochs of
    the chain's earlier trainings, `first` is the epoch with which this one begins. The accuracies in
    `epochs` are of `examples` images that `train.select` holds back, the loss and accuracy of the `images` trained on.
    `size` says, where filters are pruned whole, whether the network was trained without them, or why not.
    """

    phase: int
    kind: str
    key: str
    study: str
    trial: int
    before: int
    first: int
    length: int
    images: int
    examples: int
    epochs: tuple[EpochValues, ...]
    partials: tuple[Partial, ...]
    size: str = ""

    def epoch_of_trial(self, epoch: int) -> int:
        """Return an epoch of this training as an epoch of the whole trial."""
        return self.before + epoch - self.first


def curves(stages: Stages, record: TrialRecord) -> list[Curve]:
    """Return the curves of a trial's chain whose stages are stored with them, in order."""
    found: list[Curve] = []
    before = 0
    for phase, key in enumerate(record.keys):
        if (stage := stages.find(key)) is None:
            continue
        if (curve := stages.curve(key)) is not None:
            partials = tuple(Partial(epoch, measured) for epoch, measured in stages.partials(key))
            first = curve.epochs[-1].epoch - curve.length if curve.epochs else 0
            made = (phase, curve.phase, key, stage.study, stage.trial, before, first, curve.length)
            found.append(Curve(*made, curve.images, curve.examples, curve.epochs, partials, curve.size))
        before += stage.epochs
    return found
