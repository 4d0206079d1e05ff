"""What `auto` resolves to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainables.core.precision import resolve_precision


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "fp32"), ({"avx512_f": True}, "fp32"), ({}, "fp32")],
)
def test_auto_follows_the_processor(
    capabilities: dict[str, bool], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", "cpu") == wanted
    assert resolve_precision("fp32", "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"


def test_auto_without_a_way_to_ask_is_exact(monkeypatch: Any) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", "cpu") == "fp32"
