"""What may be trained in place of the weights, as data."""

from __future__ import annotations

from typing import Literal

from trainables.core.spec import Spec


class Weights(Spec):
    """Base of every way to make the weights of convolution and linear layers out of trained tensors.

    `trainables.reparametrisations.tensors` has the tensors, and the network's effective weights as a function of them.
    """

    kind: str

    def settled(self, epoch: int, epochs: int) -> bool:
        """Say whether what is trained may be chosen to be handed on after an epoch, of a training of `epochs`."""
        return True


class Plain(Weights):
    """The weights themselves are trained."""

    kind: Literal["plain"] = "plain"
