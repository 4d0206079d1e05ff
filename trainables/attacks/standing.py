"""The images of a batch that an attack has not broken yet: attacks go on with those alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainables.attacks.geometry import per_image
from trainables.attacks.verdicts import wrong

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.base import LogitsFn


def classes(y: Tensor) -> Tensor:
    """Return labels as class indices (N,); `y` is (N,) class indices or (N, K) probabilities."""
    return y.argmax(dim=1) if y.is_floating_point() else y


class Standing:
    """The images that are classified correctly, and the misclassified inputs found for the others.

    `found` (N, ...) starts as the images. `x`, `y` and `eps` are those of the standing images, `left` (M,) their
    places in the batch.
    """

    def __init__(self, logits_fn: LogitsFn, x: Tensor, y: Tensor, eps: float | Tensor) -> None:
        self.found = x.clone()
        self.x, self.y, self.eps = x, classes(y), eps
        self.left = torch.arange(len(x), device=x.device)
        with torch.no_grad():
            self._leave(wrong(logits_fn(x), self.y))

    def __len__(self) -> int:
        return len(self.left)

    def leave(self, inputs: Tensor, which: Tensor) -> None:
        """Keep the inputs (M, ...) that `which` (M,) names; their images stand no longer."""
        if bool(which.any()):
            self.found[self.left[which]] = inputs[which].to(self.found.dtype)
            self._leave(which)

    def _leave(self, which: Tensor) -> None:
        stay = ~which
        self.left, self.x, self.y = self.left[stay], self.x[stay], self.y[stay]
        if isinstance(self.eps, torch.Tensor) and self.eps.dim():
            self.eps = self.eps[stay]

    def radius(self) -> float | Tensor:
        """Return `eps` as it broadcasts over the standing images."""
        return per_image(self.eps, self.x)
