"""What the framework keeps of the inputs that an attack tries."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from trainables.attacks import run
from trainables.attacks.base import Attack, LogitsFn

X = torch.full((2, 1, 2, 2), 0.5)


class Tries(Attack):
    """Tries one input, and returns the images as they are."""

    kind: Literal["tries"] = "tries"
    shift: float | None

    def perturb(self, logits_fn: LogitsFn, x: Tensor, y: Tensor, **given: Any) -> Tensor:
        logits_fn(x + (torch.nan if self.shift is None else self.shift))
        return x


def undefined_above(x: Tensor) -> Tensor:
    """Class 0 up to the brightness of the images; above it, and of what has none, logits are NaN."""
    logits = torch.tensor([[1.0, 0.0]]).repeat(len(x), 1)
    return torch.where(x.flatten(1).mean(dim=1, keepdim=True) <= 0.55, logits, torch.nan)


def found(shift: float | None) -> Tensor:
    given: dict[str, Any] = {"eps": 0.1, "generator": torch.Generator()}
    return run(Tries(shift=shift), undefined_above, X, torch.zeros(2, dtype=torch.long), **given)


def test_an_input_whose_logits_are_not_finite_is_kept_as_misclassified() -> None:
    """The first of several NaN is the largest, which would be the true class here."""
    assert torch.equal(found(0.1), X + 0.1)
    assert torch.equal(found(0.01), X)


def test_pixels_that_are_no_numbers_are_not_kept() -> None:
    assert torch.equal(found(None), X)
