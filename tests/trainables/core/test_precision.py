"""What `auto` resolves to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainables.core import precision
from trainables.core.precision import resolve_precision


@pytest.mark.parametrize(
    ("capabilities", "faster", "wanted"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, False, "bf16"),
        ({"avx512_bf16": True}, True, "bf16"),
        ({"avx512_bf16": True}, False, "fp32"),
        ({"avx512_f": True}, True, "fp32"),
        ({}, True, "fp32"),
    ],
)
def test_auto_follows_the_processor(
    capabilities: dict[str, bool], faster: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(precision, "multiplies_faster", lambda: faster)
    assert resolve_precision("auto", "cpu") == wanted
    assert resolve_precision("fp32", "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"


@pytest.mark.parametrize(("seconds", "wanted"), [(0.5, True), (0.9, False), (2.0, False)])
def test_bf16_must_be_clearly_faster_at_its_best(seconds: float, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first product of each kind does not count, nor does a product that other work held up."""
    now, durations = [0.0], iter([5.0, 9.0, *[1.0, 9.0] * 3, *[9.0, seconds] * 4])

    def clock() -> float:
        calls[0] += 1
        now[0] += next(durations) if calls[0] % 2 == 0 else 0.0
        return now[0]

    calls = [0]
    monkeypatch.setattr(precision.time, "perf_counter", clock)
    assert precision.multiplies_faster.__wrapped__() is wanted


def test_auto_without_a_way_to_ask_is_exact(monkeypatch: Any) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", "cpu") == "fp32"
