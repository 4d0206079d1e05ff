"""What was measured of one network: the worst over its attacks, example by example, at every radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import and_
from typing import Any

import numpy as np

from trainables.metrics import wilson
from trainables.store.confirmations import Confirmation, bits, packed

_ROUNDING = 1e-9
"""How far a radius may be from the protocol's and be the same."""


@dataclass(frozen=True)
class Accuracy:
    """A share of examples with its 95 % Wilson interval."""

    value: float
    low: float
    high: float
    correct: int
    examples: int

    @classmethod
    def of(cls, correct: int, examples: int) -> Accuracy:
        """Return the accuracy of `correct` of `examples`."""
        return cls(correct / examples, *wilson(correct, examples), correct, examples)


@dataclass(frozen=True)
class AttackResult:
    """One attack on one network: how many examples it was run on, and how many of them it broke. Units: seconds."""

    attack: str
    label: str
    eps: float
    eps_text: str
    attacked: int
    broken: int
    seconds: float
    spec: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class CurvePoint:
    """The accuracy that is left at a radius: under the worst of all attacks of at most this radius."""

    eps: float
    accuracy: Accuracy


@dataclass(frozen=True)
class Corrupted:
    """The accuracy on corrupted images, such as those of `gaussian_noise` at a severity."""

    name: str
    label: str
    accuracy: Accuracy


@dataclass(frozen=True)
class Replicate:
    """The network of one training seed. `verdicts` are the bits, as hex, of the examples that no attack broke."""

    seed: int
    robust: Accuracy
    clean: Accuracy
    sparsity: float
    weights_sha256: str
    verdicts: str = field(repr=False)
    clean_verdicts: str = field(repr=False)


class Network:
    """The results for one network on one set of examples; which attack was first does not matter."""

    def __init__(self, results: Sequence[Confirmation]) -> None:
        """Take all results of one network, of which one is the clean accuracy."""
        self.results = results
        self.clean = next(result for result in results if result.role == "clean")
        self.examples = self.clean.examples

    @property
    def complete(self) -> bool:
        """Whether the results of all attacks of a plan are there; another one may ask for more, or for others."""
        names = {result.attack for result in self.results}
        return any(result.planned and names.issuperset(result.planned) for result in self.results)

    @cached_property
    def attacks(self) -> tuple[Confirmation, ...]:
        """The attacks, which count towards the worst, in the order in which they were run."""
        found = (result for result in self.results if result.role == "attack")
        return tuple(sorted(found, key=lambda result: (result.eps, result.started, result.attack)))

    def attacks_at(self, eps: float) -> list[Confirmation]:
        """Return the attacks at a radius, the minimum-norm ones among them."""
        return [a for a in self.attacks if a.distances is not None or abs(a.eps - eps) <= _ROUNDING]

    def robust(self, eps: float) -> int:
        """Return the bits of the examples that are correct clean, and that no attack of at most this radius broke."""
        broken = 0
        for attack in self.attacks:
            if attack.distances is not None:
                broken |= _nearer(attack.distances, eps)
            elif attack.eps <= eps + _ROUNDING:
                broken |= bits(attack.attacked) & ~bits(attack.correct)
        return bits(self.clean.correct) & ~broken

    def accuracy(self, eps: float) -> Accuracy:
        """Return the accuracy under the worst of the attacks of at most this radius."""
        return Accuracy.of(self.robust(eps).bit_count(), self.examples)

    @property
    def noise_off(self) -> float | None:
        """The accuracy with the noise off, under the worst of the attacks on it; None if there was none."""
        stands = [bits(result.correct) for result in self.results if result.role == "noise_off"]
        return reduce(and_, stands).bit_count() / self.examples if stands else None

    def curve(self) -> tuple[CurvePoint, ...]:
        """Return the accuracy at each radius of an attack, from 0 on, and where a minimum-norm attack breaks more."""
        radii = {0.0, *(attack.eps for attack in self.attacks if attack.distances is None)}
        for attack in self.attacks:
            finite = sorted(d for d in attack.distances or () if d is not None and d > 0)
            radii |= {finite[at] for at in np.linspace(0, len(finite) - 1, 21).round().astype(int)} if finite else set()
        return tuple(CurvePoint(eps, self.accuracy(eps)) for eps in sorted(radii))


def _nearer(distances: Sequence[float | None], eps: float) -> int:
    near = [distance is not None and distance <= eps + _ROUNDING for distance in distances]
    return int.from_bytes(np.packbits(near).tobytes())


def label(network: Network, eps: float) -> str:
    """Return the names of the attacks at the protocol's radius."""
    attacks = network.attacks_at(eps)
    return " + ".join(dict.fromkeys("transfer" if attack.spec.get("source") else attack.label for attack in attacks))


def attack_result(result: Confirmation) -> AttackResult:
    broken = result.attacked_count - result.correct_count
    named = (result.attack, result.label, result.eps, result.eps_text)
    return AttackResult(*named, result.attacked_count, broken, result.seconds, result.spec)


def replicate(network: Network, eps: float) -> Replicate:
    clean = network.clean
    return Replicate(
        seed=clean.seed,
        robust=network.accuracy(eps),
        clean=network.accuracy(0.0),
        sparsity=clean.sparsity,
        weights_sha256=clean.weights_sha256,
        verdicts=packed(network.examples, network.robust(eps)),
        clean_verdicts=packed(network.examples, network.robust(0.0)),
    )
