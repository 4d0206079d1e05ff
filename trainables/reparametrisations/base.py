"""What a reparametrisation is: tensors that are trained in place of the weights, and the weights that follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from trainables.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainables.pruning.network import Network
    from trainables.store.state import State

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""

TrainRest = bool | Literal["norms"]
"""What is trained beside frozen weights."""

TRAINED_ON = "train biases and batch norms on; norms: batch norms alone, as the code does"
"""Description of `train_rest`."""


class EffectiveWeights(ABC):
    """The prunable weights as a differentiable function of tensors that are trained.

    `extras` are trained beside the network's own parameters, by name; `kept` are tensors that change otherwise and are
    part of a checkpoint; `frozen` names parameters of the network that are not trained. Weight decay leaves those
    extras alone that `undecayed` names. With `in_training` the training loss sees weights with noise, and `in_attack`
    says what the attack sees: `fresh` noise in every pass, noise `held` for a batch, or none (`off`).
    The network's own parameters never are the effective weights: those are what `weights` returns.
    """

    undecayed: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.extras: dict[str, nn.Parameter] = {}
        self.kept: dict[str, Tensor] = {}
        self.frozen: frozenset[str] = frozenset()
        self.in_training = False
        self.in_attack: Literal["fresh", "held", "off"] = "off"

    @abstractmethod
    def weights(
        self, params: Mapping[str, Tensor], extras: Mapping[str, Tensor], draws: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Return the effective weights that differ from the parameters of their names, differentiable.

        `params` are those of the network, pruned weights 0. Random weights draw from `draws`; without it, their
        mean is returned.

        Shapes: each result is shaped like the parameter of its name.
        """

    def climbs(self, done: float, awp: float) -> Mapping[str, float]:
        """Return how far each extra moves up the loss before a step takes its gradient, as a share of its norm.

        `done` is the share of the training that is done. By default those that are not vectors move as `awp` moves the
        network's own weights.
        """
        return {name: awp for name, extra in self.extras.items() if extra.dim() > 1}

    def begin(self, epoch: int) -> None:  # noqa: B027, it may be left as it is
        """Prepare the epoch after `epoch` completed ones."""

    def penalised(self, weights: Mapping[str, Tensor], extras: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return what regularisers see of the network's prunable weights, differentiable: by default these."""
        return weights

    def penalty(self) -> Tensor | None:
        """Return a scalar that is added to the loss, or None."""
        return None

    def followed(self, rate: float) -> Tensor | None:
        """Return the largest factor of the penalty, a scalar, that gradient steps of this rate do not overshoot.

        None where any will do.
        """
        return None

    def fold(self, state: State, extras: Mapping[str, Tensor]) -> State:
        """Return the training's result, which has effective weights; `state` has the network's own parameters."""
        effective = self.weights(state.params, extras, None)
        return replace(state, params={**state.params, **{n: t.detach() for n, t in effective.items()}}).masked()


class Reparametrisation(Spec):
    """Base of every way to make the prunable weights out of trained tensors."""

    kind: str

    def settled(self, epoch: int, epochs: int) -> bool:
        """Return whether the state after an epoch may be the result of a training of `epochs` epochs."""
        return True

    @abstractmethod
    def build(
        self, state: State, generator: torch.Generator, model: nn.Module, shape: Shape
    ) -> EffectiveWeights | None:
        """Return the effective weights of a training that begins at `state`, or None where nothing else is trained.

        Pruned weights of `state` are 0. Its parameters are those of the network that is trained, and may be given
        other values in place. `generator` is the only source of randomness. `model` is that network, not to be
        changed, and `shape` that of an image.
        """

    def build_seeing(self, network: Network) -> EffectiveWeights | None:
        """Return what `build` does, where the network's images are at hand too; `network.state` is where it begins."""
        return self.build(network.state, network.generator, network.model, network.data.shape)


class Plain(Reparametrisation):
    """The weights themselves are trained."""

    kind: Literal["plain"] = "plain"

    def build(self, state: State, generator: torch.Generator, model: nn.Module, shape: Shape) -> None:
        return None
