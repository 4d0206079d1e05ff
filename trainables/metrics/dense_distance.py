"""The distance of a network to the dense one at initialisation: logits and tangent kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainables.attacks import ATTACKS, run
from trainables.attacks.base import Attack, LogitsFn
from trainables.attacks.pgd import Pgd
from trainables.metrics.base import KernelInputs, Metric, MetricContext

if TYPE_CHECKING:
    from torch import Tensor


class DenseDistance(Metric):
    """Distances to the dense network at initialisation; each name ends with the inputs.

    `target_distance`: mean squared difference of the logits. `kernel_distance`: that of the entries of the tangent
    kernels of the first half of the images with the second; `kernel_relative`: the norm of the difference over that of
    the dense kernel. A pruned weight counts in no kernel.
    Source: the terms of Shi et al. 2022, arXiv:2202.06488, after Liu & Zenke 2020, arXiv:2006.08228.
    """

    kind: Literal["dense_distance"] = "dense_distance"
    examples: int = Field(default=64, gt=1, description="number of images, the first of the protocol's")
    inputs: KernelInputs = Field(
        default="mixed",
        description="images of the kernel and the logits; mixed: clean ones in the kernel's first half, adversarial "
        "ones in the second and for the logits",
    )
    outputs: Literal["full", "sum"] = Field(
        default="full", description="kernels of all pairs of classes, or of the sum of the logits"
    )
    attack: Annotated[Attack, ATTACKS] = Field(
        default=Pgd(steps=10), description="makes the adversarial images, of the dense network"
    )
    chunk: int = Field(default=32, gt=0, description="images whose Jacobians are in memory at a time")

    def clashes(self, other: Metric) -> bool:
        return isinstance(other, DenseDistance) and self.inputs == other.inputs

    def values(self, context: MetricContext) -> dict[str, float]:
        import torch
        from torch.func import functional_call

        from trainables.models.ntk import kernel, readout

        x, y = (t[: self.examples].contiguous() for t in (context.x, context.y))
        origin, state = (s.to(x.device) for s in (context.origin(), context.state))
        masks = {name: mask.to(state.params[name].dtype) for name, mask in state.masks.items()}

        def dense(params: Mapping[str, Tensor], images: Tensor) -> Tensor:
            logits: Tensor = functional_call(context.net, {**params, **origin.buffers}, (images,))
            return logits

        def sparse(params: Mapping[str, Tensor], images: Tensor) -> Tensor:
            gated = {**params, **{name: params[name] * mask for name, mask in masks.items()}}
            logits: Tensor = functional_call(context.net, {**gated, **state.buffers}, (images,))
            return logits

        worse = self._attacked(context, lambda images: dense(origin.params, images), x, y)
        first = worse if self.inputs == "adversarial" else x
        half = len(x) // 2
        read = readout(self.outputs, dense(origin.params, x[:1]).shape[1], context.generator)
        with torch.no_grad():
            target = (sparse(state.params, worse) - dense(origin.params, worse)).double().square().mean()
            pairs = (first[:half], worse[half : 2 * half])
            found, wanted = (
                kernel(f, params, *pairs, read=read, chunk=self.chunk).double()
                for f, params in ((sparse, state.params), (dense, origin.params))
            )
        difference = (found - wanted).square()
        numbers = {
            "target_distance": target,
            "kernel_distance": difference.mean(),
            "kernel_relative": (difference.sum() / wanted.square().sum()).sqrt(),
        }
        return {f"{name}_{self.inputs}": float(value) for name, value in numbers.items()}

    def _attacked(self, context: MetricContext, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> Tensor:
        if self.inputs == "clean":
            return x
        attack = self.attack.within(context.norm)
        return run(attack, logits_fn, x, y, eps=context.eps, generator=context.generator, keep="last")
