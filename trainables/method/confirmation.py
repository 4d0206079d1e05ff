"""What `robustsearch confirm` measures of a network, as data: a step per attack, in groups that are separate jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.core.errors import SpecError
from trainables.core.registry import nearest
from trainables.core.spec import Eps, Spec
from trainables.method.protocol import Protocol
from trainables.store.confirmations import Role

ENSEMBLE = "autoattack"
"""The attack that counts most, by default: the original AutoAttack."""
CLASSES = 4
"""The number of classes that its losses need."""
SWEEP = "apgd-t"
"""The attack at the other radii."""
TRANSFER = "apgd-ce"
"""The attack on other networks, whose inputs are shown to the one that is measured."""
MULTIPLES = ("1/4", "1/2", "2", "4", "8")
"""Radii of the sweep in units of the protocol's; 0 and 1 are measured anyway."""
EOT = 20
"""Passes that are averaged for each gradient of a network with noise, and the least number of votes afterwards."""
NOISE_OFF = "noise-off"
"""The network itself with its noise off: as the source of inputs, and what is measured of it."""

Corruption = Literal["gaussian_noise", "blur", "brightness", "contrast"]
SEVERITIES: dict[Corruption, tuple[float, ...]] = {
    "gaussian_noise": (0.04, 0.08, 0.12),
    "blur": (0.5, 0.75, 1.0),
    "brightness": (0.1, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.25),
}
"""Standard deviation of the noise, sigma of the blur in pixels, what each pixel gains, the share of contrast kept."""


class Step(Spec):
    """One attack or corruption, at one radius.

    The inputs are made for the network itself, or for the one that `source` names, and then shown to it.
    """

    name: str = Field(description="name of the result, unique within a network")
    role: Role = Field(default="attack", description="what the result counts as")
    attack: Annotated[Attack, ATTACKS] | None = Field(default=None, description="the attack; none for clean images")
    eps: Eps = Field(default=Eps("0"), description="the attack's radius")
    source: str | None = Field(default=None, description="the network that the attack sees; null: the measured one")
    corruption: Corruption | None = Field(default=None, description="how images are corrupted")
    severity: float = Field(default=0.0, ge=0, description="how strongly; see `SEVERITIES`")

    @property
    def label(self) -> str:
        """The name for tables."""
        if self.corruption is not None:
            return f"{self.corruption.replace('_', ' ')} {self.severity:g}"
        if self.attack is None:
            return "clean"
        if self.role == "noise_off":
            return f"{self.attack.label}, noise off"
        return self.attack.label if self.source is None else f"transfer from {self.source}"


CLEAN = Step(name="clean", role="clean")
"""The first step of every group."""


def ensemble(kind: str, norm: str, classes: int) -> str:
    """Return the kind of the attack that comes first; what AutoAttack cannot attack is attacked otherwise.

    Raises:
        SpecError: there is no such attack, or it has no such norm.
    """
    if kind not in ATTACKS:
        raise SpecError(f"--attack {kind}: no such attack{nearest(kind, ATTACKS)}; allowed: {', '.join(ATTACKS)}")
    if kind == ENSEMBLE and classes < CLASSES:
        kind = "apgd-t"
    try:
        ATTACKS[kind].model_validate({"norm": norm})
    except ValidationError as error:
        raise SpecError(
            f"--attack {kind}: it is not an attack in {norm} as it is: {error.errors()[0]['msg']}"
        ) from None
    return kind


def groups(
    protocol: Protocol, sources: Iterable[str], *, first: str = ENSEMBLE, corruptions: bool = False
) -> dict[str, tuple[Step, ...]]:
    """Return the steps by group; a step is run on the examples that no step before it in its group has broken.

    `sources` are the names of other networks whose adversarial examples are tried. `first` is the kind of the attack
    that comes first; networks with noise are attacked by gradients averaged over it instead.
    """
    norm, eps = protocol.attack.norm, protocol.eps
    begin = _of_noise(norm, eps) if protocol.noise else (_step(first, first, norm, eps),)
    square = _step("square", "square", norm, eps)
    found = {
        "attacks": (*begin, square, *_transfers(norm, eps, [*([NOISE_OFF] if protocol.noise else []), *sources])),
        "curve": (*(() if protocol.noise else (_step("fmn", "fmn", norm, eps),)), *_sweep(norm, eps)),
    }
    if protocol.noise:
        off = _step(NOISE_OFF if first == ENSEMBLE else f"{NOISE_OFF}-{first}", first, norm, eps)
        found["noise off"] = (off.model_copy(update={"role": "noise_off", "source": NOISE_OFF}),)
    if corruptions:
        found["corruptions"] = tuple(_corruptions())
    return found


def scaled(eps: Eps, multiple: Fraction, norm: str) -> Eps:
    """Return a multiple of a radius, written as it is; an l_inf radius ends at the pixel range."""
    if norm == "linf" and float(eps) * multiple > 1:
        return Eps("1")
    number, slash, below = eps.text.partition("/")
    # Before a slash there is no exponent.
    return Eps(f"{Decimal(f'{float(number) * float(multiple):.9g}'):f}{slash}{below}")


def _step(name: str, kind: str, norm: str, eps: Eps) -> Step:
    return Step(name=name, attack=ATTACKS[kind].model_validate({"norm": norm}), eps=eps)


def _of_noise(norm: str, eps: Eps) -> tuple[Step, ...]:
    """Return the attacks on a network with noise, those of AutoAttack's version for such networks."""
    return tuple(_step(kind, kind, norm, eps) for kind in ("apgd-ce", "apgd-dlr"))


def _transfers(norm: str, eps: Eps, sources: Iterable[str]) -> Iterator[Step]:
    for source in sources:
        step = _step(f"transfer-{source}", TRANSFER, norm, eps)
        yield step.model_copy(update={"source": source})


def _sweep(norm: str, eps: Eps) -> Iterator[Step]:
    """Yield an attack per radius, from small to large: what a smaller ball has broken a larger one breaks too."""
    radii = {float(radius): (multiple, radius) for multiple in MULTIPLES if (radius := _radius(eps, multiple, norm))}
    for multiple, radius in (radii[each] for each in sorted(radii)):
        named = f"sweep-{float(Fraction(multiple)):g}"
        yield _step(named, SWEEP, norm, radius)


def _radius(eps: Eps, multiple: str, norm: str) -> Eps | None:
    radius = scaled(eps, Fraction(multiple), norm)
    return None if float(radius) == float(eps) else radius


def _corruptions() -> Iterator[Step]:
    for corruption, severities in SEVERITIES.items():
        for level, severity in enumerate(severities, 1):
            name = f"{corruption}-{level}"
            yield Step(name=name, role="corruption", corruption=corruption, severity=severity)
