from __future__ import annotations

import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainables.attacks.pgd import Pgd
from trainables.core.spec import Eps, Spec, plain
from trainables.method.training import Training


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_a_fraction_keeps_its_text_and_has_the_exact_value(top: int, bottom: int) -> None:
    eps = Eps(f"{top}/{bottom}")
    assert eps == float(Fraction(top, bottom))
    assert eps.text == f"{top}/{bottom}"


@pytest.mark.parametrize("wrong", ["8/0", "eight", "", "-1", "nan", "inf", "1/2/3"])
def test_what_is_no_radius_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"radius|neither"):
        Eps(wrong)


def test_equal_radii_are_equal_however_written_and_survive_pickling() -> None:
    assert Eps("0.5") == Eps("1/2") == 0.5
    assert pickle.loads(pickle.dumps(Eps("8/255"))).text == "8/255"


def test_a_forgotten_255_is_refused_with_the_fraction_that_was_meant() -> None:
    with pytest.raises(ValidationError, match="did you mean 8/255"):
        Training(eps=Eps(8))
    assert Training(eps=Eps(8), attack=Pgd(norm="l2")).eps == 8


class _Small(Spec):
    kind: str = "small"
    a: int = 1
    b: float = 0.5


def test_plain_omits_defaults_but_never_the_kind() -> None:
    assert plain(_Small(), defaults=False) == {"kind": "small"}
    assert plain(_Small(a=2), defaults=False) == {"kind": "small", "a": 2}
    assert plain(_Small()) == {"kind": "small", "a": 1, "b": 0.5}


def test_numbers_that_are_equal_are_written_the_same() -> None:
    assert str(plain({"a": [-0.0, 0.0, 1.5]})) == "{'a': [0.0, 0.0, 1.5]}"


def test_plain_training_reads_back_equal_with_its_text() -> None:
    training = Training.model_validate({"eps": "4/255", "regularisers": {"l1": 1e-5}, "optimiser": "adam"})
    again = Training.model_validate(plain(training))
    assert again == training
    assert again.eps.text == "4/255"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        _Small(b=value)
