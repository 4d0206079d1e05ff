"""A network behind its normalisation layer: attacks work on pixels in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from trainables.core.errors import SpecError
from trainables.models.base import Model
from trainables.models.checks import check_logits, check_module, check_shapes, does_not_fit, is_small
from trainables.models.isolation import isolated

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
        self._recurrent = tuple(module for module in net.modules() if isinstance(module, nn.RNNBase))

    def forward(self, x: Tensor) -> Tensor:
        if self.normalise is not None:
            x = self.normalise(x)
        if self._recurrent and torch.is_grad_enabled() and not all(module.training for module in self._recurrent):
            with _without_cudnn():
                return self._logits(x)
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits


@contextmanager
def _without_cudnn() -> Iterator[None]:
    """Compute in torch's own kernels: cuDNN differentiates recurrent layers in training mode alone.

    Not `cudnn.flags`: it writes the other flags, too, in an interface that torch refuses beside the newer one.
    """
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def build_normalised(
    spec: Model, shape: tuple[int, int, int], classes: int, mean: Sequence[float], std: Sequence[float], seed: int
) -> Normalised:
    """Build as `trainables.models.build` does."""
    assert len(mean) == len(std) == shape[0], "one mean and one std per channel"
    with isolated(seed):
        with torch.device("cpu"):
            net = spec.network(shape, classes)
        check_module(spec, net)
        if any(is_lazy(p) for p in (*net.parameters(), *net.buffers())):
            _settle(spec, net, shape)
        check_shapes(spec, net, shape, classes)
    return Normalised(net.train(), Normalise(mean, std) if spec.normalise else None)


class _Undrawn(TorchFunctionMode):
    """Draws no values: on meta tensors, the first draw loads torch's compiler, which takes as long as torch itself."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_) and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs or {})


def outline(spec: Model, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """Build a network for its shapes alone: on meta tensors, or where it is small or fails, as `build_normalised` does.

    Raises:
        SpecError: it cannot be built, or takes no images of this shape.
    """
    try:
        with isolated(seed), torch.device("meta"), _Undrawn():
            net = spec.network(shape, classes)
            if not any(is_lazy(p) for p in (*net.parameters(), *net.buffers())) and not is_small(net):
                with torch.no_grad():
                    check_logits(spec, net.eval()(torch.empty((2, *shape), dtype=torch.float32)), classes)
                return Normalised(net, None)
    except Exception:  # Many a network is built from values: the real one says what is wrong, if anything is.
        pass
    return build_normalised(spec, shape, classes, (0.5,) * shape[0], (0.25,) * shape[0], seed)


def _settle(spec: Model, net: nn.Module, shape: tuple[int, int, int]) -> None:
    """Give lazy layers their shapes by a first pass, and with it their initial weights."""
    try:
        with torch.no_grad():
            net.eval()(torch.zeros((2, *shape), dtype=torch.float32))
    except Exception as error:
        raise SpecError(does_not_fit(spec, shape, error)) from error
