"""A network behind its normalisation layer: attacks work on pixels in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.core.errors import SpecError
from trainables.models.base import Model

LEAST_STD = 1 / 255
"""The least divisor, for channels that hardly vary: one step of an 8-bit pixel."""


class Normalise(nn.Module):
    """Subtract a mean per channel and divide by a standard deviation per channel. Shapes: (N, C, H, W) to the same."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).clamp(min=LEAST_STD).reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Normalised(nn.Module):
    """`net` on normalised images; without a `normalise` layer on the pixels.

    Shapes: images (N, C, H, W) in [0, 1] to logits (N, K).
    """

    def __init__(self, net: nn.Module, normalise: Normalise | None) -> None:
        super().__init__()
        self.normalise = normalise
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        if self.normalise is not None:
            x = self.normalise(x)
        logits: Tensor = self.net(x)
        return logits


def build_normalised(
    spec: Model, shape: tuple[int, int, int], classes: int, mean: Sequence[float], std: Sequence[float], seed: int
) -> Normalised:
    """Build as `trainables.models.build` does."""
    assert len(mean) == len(std) == shape[0], "one mean and one std per channel"
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed: that seeds every GPU as well.
        torch.default_generator.manual_seed(seed)
        net = spec.network(shape, classes)
    _check(spec, net, shape, classes)
    return Normalised(net, Normalise(mean, std) if spec.normalise else None)


def _check(spec: Model, net: nn.Module, shape: tuple[int, int, int], classes: int) -> None:
    """Run the network once on tensors without content, for the shapes alone.

    Raises:
        SpecError: it cannot take such images, or returns no logits for `classes` classes.
    """
    name = getattr(spec, "name", spec.kind)
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    weightless = {key: tensor.detach().to("meta") for key, tensor in tensors.items()}
    net.eval()
    try:
        with torch.no_grad():
            logits = functional_call(net, weightless, (torch.empty((2, *shape), device="meta"),))
    except NotImplementedError:
        return  # An operation that does not know tensors without content.
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        size = "x".join(map(str, shape))
        raise SpecError(f"{name} cannot take images of {size} (channels, height, width): {error}") from error
    finally:
        net.train()
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        found = tuple(logits.shape[1:]) if isinstance(logits, Tensor) else type(logits).__name__
        raise SpecError(f"{name} returns {found} per image; {classes} logits are needed")
