"""VGG-16 with batch normalisation for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainables.models.base import Model, require_pixels

if TYPE_CHECKING:
    from torch import nn


class Vgg16(Model):
    """VGG-16-BN: the thirteen convolutions of configuration D without the last pooling, then 256, 256 units.

    Parameter names and shapes are those of the base net of the adversarial pruning benchmark. He-normal
    weights throughout: with linear weights of N(0, 0.01), as there, the initial logits are near 0, and adversarial
    training starts slowly. Source: Simonyan & Zisserman 2015, arXiv:1409.1556; Piras et al. 2024,
    arXiv:2409.01249.
    """

    kind: Literal["vgg16"] = "vgg16"

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from trainables.models.nets.vgg import Vgg16Net

        require_pixels(self.kind, shape, 16)
        return Vgg16Net(shape[0], classes)
