"""Logits are the same within a thousandth of the largest."""

from __future__ import annotations

import torch

from trainables.models.graph.logits import same_logits


def test_logits_may_differ_by_a_thousandth_of_the_largest() -> None:
    wanted = torch.tensor([[10.0, -20.0, 0.0]])
    assert same_logits(wanted + 0.019, wanted)
    assert not same_logits(wanted + 0.021, wanted)


def test_logits_of_another_shape_or_that_are_no_numbers_are_others() -> None:
    wanted = torch.ones(2, 3)
    assert not same_logits(wanted[:1], wanted)
    assert not same_logits(wanted.fill_(torch.nan), wanted)
