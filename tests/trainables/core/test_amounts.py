"""Numbers, and shares of a whole."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from trainables.core.amounts import Floor, Interval, amount


@pytest.mark.parametrize(("given", "whole", "wanted"), [(7, 100, 7), (0.5, 100, 50), (0.001, 100, 1), (0, 10, 0)])
def test_a_number_stands_for_itself_and_a_share_for_a_part(given: Any, whole: int, wanted: int) -> None:
    assert amount(given, whole) == wanted


@pytest.mark.parametrize(
    ("kind", "wrong"), [(Interval, 0), (Interval, 0.0), (Interval, -1), (Interval, 1.0), (Floor, -1), (Floor, 1.5)]
)
def test_nothing_is_both(kind: Any, wrong: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(wrong, strict=True)
    assert TypeAdapter(kind).validate_python(2, strict=True) == 2
