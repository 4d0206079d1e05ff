"""The network that is pruned, as a function of its weights, and its training images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.attacks import run
from trainables.attacks.base import Attack
from trainables.data.tensors import TrainingData, batch_sizes
from trainables.models.graph.channels import Wiring
from trainables.models.graph.coupling import Coupling
from trainables.models.normalised import Normalised
from trainables.models.single import trains_on_one
from trainables.store.state import State, Tensors, duplicate


@dataclass(frozen=True)
class Network:
    """A network and its training images on one device, for pruners that need more than weights.

    `model` is a scratch model: its modules are used and its tensors left alone. `build` builds a new one from a
    seed, where that is possible. All draws come from `generator`, in the order of the calls.
    """

    model: nn.Module
    state: State
    data: TrainingData
    generator: torch.Generator
    build: Callable[[int], nn.Module] | None = None

    @property
    def device(self) -> torch.device:
        """The device of weights and images."""
        return self.generator.device

    @cached_property
    def params(self) -> Tensors:
        """All parameters by name, contiguous: the memory format decides the rounding."""
        return {name: p.contiguous() for name, p in self.state.params.items()}

    @cached_property
    def wiring(self) -> Wiring:
        """Which channels feed which, and the batch norms behind layers."""
        return Wiring(self.model, self.data.shape)

    @cached_property
    def coupling(self) -> Coupling:
        """Which channels can only go together.

        Raises:
            SpecError: torch-pruning is not installed, or does not understand the network.
        """
        return Coupling(self.model, self.data.shape)

    def logits(self, weights: Mapping[str, Tensor], x: Tensor, *, train: bool = False) -> Tensor:
        """Return the logits (N, classes) with these parameters in place of the network's own.

        Differentiable in `weights` and `x`, and computed in the type of `x`. With `train` batch norm takes the batch's
        statistics; either way it moves none.

        Shapes: x (N, C, H, W), pixels in [0, 1].
        """
        tensors = {**self.params, **{name: b.clone() for name, b in self.state.buffers.items()}, **weights}
        cast = {name: t.to(x.dtype) if t.is_floating_point() else t for name, t in tensors.items()}
        before = self.model.training
        self.model.train(train)
        try:
            logits: Tensor = functional_call(self.model, cast, (x,))
        finally:
            self.model.train(before)
        return logits

    def examples(self, number: int | None, batch: int, *, train: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `number` training images in random order, None for all: pixels (N, C, H, W) with labels (N,).

        For passes in training mode (`train`) a last image that would be alone, and that batch norm would refuse, comes
        with the batch before it.
        """
        split = self.data.train
        order = torch.randperm(len(split), generator=self.generator, device=self.device)[:number]
        alone = train and len(order) % batch == 1 < batch
        none_of_one = alone and not trains_on_one(self.model, split.pixels(order[:1]).contiguous())
        for part in torch.split(order, batch_sizes(len(order), batch, none_of_one=none_of_one)):
            yield split.pixels(part).contiguous(), split.y[part]

    def noise(self, number: int) -> Tensor:
        """Return Gaussian noise as inputs (number, C, H, W), of mean 0 and deviation 1 where the layers begin."""
        shape = (number, *self.data.shape)
        return self.unnormalised(torch.randn(shape, generator=self.generator, device=self.device))

    def unnormalised(self, z: Tensor) -> Tensor:
        """Return the inputs that the network normalises to `z` (N, C, H, W): `z` itself where it does not normalise."""
        layer = self.model.normalise if isinstance(self.model, Normalised) else None
        return z if layer is None else layer.mean.to(z) + layer.std.to(z) * z

    def attacked(self, attack: Attack, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Return adversarial images for the network as it is, in eval mode.

        Shapes: x and the result (N, C, H, W) in [0, 1]; y (N,) class indices. Units: eps in pixel units of [0, 1].
        """

        def logits_fn(inputs: Tensor) -> Tensor:
            return self.logits({}, inputs)

        return run(attack, logits_fn, x, y, eps=eps, generator=self.generator, keep="last")

    def scratch(self) -> nn.Module:
        """Return a copy of the network on the CPU whose tensors may be changed."""
        return duplicate(self.model).cpu()

    def redrawn(self) -> Tensors:
        """Return a fresh initialisation of all parameters.

        Raises:
            ValueError: no new network can be built.
        """
        if self.build is None:
            raise ValueError("a fresh initialisation was asked for, and no network can be built here")
        seed = int(torch.randint(2**62, (), generator=self.generator, device=self.device))
        return {name: p.detach().to(self.device) for name, p in self.build(seed).named_parameters()}
