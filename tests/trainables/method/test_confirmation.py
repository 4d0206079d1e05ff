from __future__ import annotations

from fractions import Fraction

import pytest

from trainables.core.errors import SpecError
from trainables.core.spec import Eps
from trainables.method.confirmation import ENSEMBLE, SEVERITIES, Step, ensemble, groups, scaled
from trainables.method.protocol import Protocol

PLAIN = Protocol(eps=Eps("8/255"))
NOISY = Protocol(eps=Eps("8/255"), noise=True)


def names(found: dict[str, tuple[Step, ...]]) -> dict[str, list[str]]:
    return {group: [step.name for step in steps] for group, steps in found.items()}


def test_attacks_and_curve_are_groups_and_every_name_is_unique() -> None:
    found = groups(PLAIN, ["dense", "t3.1"])
    assert names(found) == {
        "attacks": ["autoattack", "square", "transfer-dense", "transfer-t3.1"],
        "curve": ["fmn", "sweep-0.25", "sweep-0.5", "sweep-2", "sweep-4", "sweep-8"],
    }
    assert [step.eps.text for step in found["curve"]] == ["8/255", "2/255", "4/255", "16/255", "32/255", "64/255"]
    assert {step.source for step in found["attacks"]} == {None, "dense", "t3.1"}
    assert all(step.role == "attack" for steps in found.values() for step in steps)


def test_noise_is_attacked_by_averaged_gradients_and_measured_without_it() -> None:
    found = groups(NOISY, ["dense"], first="pgd")
    assert names(found)["attacks"] == ["apgd-ce", "apgd-dlr", "square", "transfer-noise-off", "transfer-dense"]
    assert "fmn" not in names(found)["curve"]
    (off,) = found["noise off"]
    assert (off.role, off.source, off.attack.kind if off.attack else None) == ("noise_off", "noise-off", "pgd")
    assert (off.name, off.label) == ("noise-off-pgd", "PGD-10, noise off")
    assert names(groups(NOISY, []))["noise off"] == ["noise-off"]


def test_corruptions_count_towards_nothing() -> None:
    steps = groups(PLAIN, [], corruptions=True)["corruptions"]
    assert {step.role for step in steps} == {"corruption"}
    assert [(step.corruption, step.severity) for step in steps] == [
        (kind, severity) for kind, severities in SEVERITIES.items() for severity in severities
    ]
    assert steps[0].label == "gaussian noise 0.04"


@pytest.mark.parametrize(
    ("text", "multiple", "norm", "expected"),
    [
        ("8/255", "1/4", "linf", "2/255"),
        ("0.1", "8", "linf", "0.8"),
        ("0.3", "4", "linf", "1"),
        ("0.5", "8", "l2", "4"),
        ("3/255", "1/2", "linf", "1.5/255"),
        ("0.0001/255", "1/4", "linf", "0.000025/255"),
        ("100/255", "8", "l2", "800/255"),
    ],
)
def test_radii_are_written_as_the_study_writes_them(text: str, multiple: str, norm: str, expected: str) -> None:
    assert scaled(Eps(text), Fraction(multiple), norm).text == expected


def test_radii_that_the_pixel_range_makes_equal_are_measured_once() -> None:
    steps = groups(Protocol(eps=Eps("0.6")), [])["curve"]
    assert [step.eps.text for step in steps] == ["0.6", "0.15", "0.3", "1"]
    assert [step.eps.text for step in groups(Protocol(eps=Eps("1")), [])["curve"]] == ["1", "0.25", "0.5"]


def test_what_autoattack_cannot_attack_is_attacked_otherwise() -> None:
    assert ensemble(ENSEMBLE, "linf", 10) == ENSEMBLE
    assert ensemble(ENSEMBLE, "linf", 3) == "apgd-t"
    assert ensemble("pgd", "l2", 2) == "pgd"
    with pytest.raises(SpecError, match=r"no such attack.*autoattack"):
        ensemble("autoatack", "linf", 10)
    with pytest.raises(SpecError, match="deepfool: it is not an attack in linf"):
        ensemble("deepfool", "linf", 10)
