"""Networks that mask their gradients, or mislead an attack, each around an ordinary trained network.

Sources: Athalye et al. 2018, arXiv:1802.00420 (shattered, stochastic and vanishing gradients); Carlini et al. 2019,
arXiv:1902.06705.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.models.activations import TopK

Wrap = Callable[[nn.Module], nn.Module]
Change = Callable[[Tensor], Tensor]


class Around(nn.Module):
    """A network with something done to its input and to its logits. Shapes: (N, C, H, W) to (N, K)."""

    def __init__(self, net: nn.Module, before: Change | None = None, after: Change | None = None) -> None:
        super().__init__()
        self.net = net
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.before is None else self.before(x)
        logits: Tensor = self.net(x)
        return logits if self.after is None else self.after(logits)


def before(change: Change) -> Wrap:
    return lambda net: Around(net, before=change)


def after(change: Change) -> Wrap:
    return lambda net: Around(net, after=change)


def steps(levels: int) -> Change:
    """Round pixels to `levels` steps."""
    return lambda x: (x * levels).round() / levels


def with_gradient_of(value: Change, slope: Change) -> Change:
    """Return `value` with the gradient of `slope`."""
    return lambda x: value(x).detach() + slope(x) - slope(x).detach()


def jpeg(quality: float) -> Change:
    """Round the coefficients of a cosine transform over the whole image, as JPEG does over blocks."""

    def change(x: Tensor) -> Tensor:
        size = x.shape[-1]
        at = torch.arange(size, dtype=x.dtype, device=x.device)
        basis = torch.cos(torch.pi / size * (at[:, None] + 0.5) * at[None]) * (2 / size) ** 0.5
        basis[:, 0] /= 2**0.5
        coefficients = basis.T @ x @ basis
        return (basis @ ((coefficients / quality).round() * quality) @ basis.T).clamp(0, 1)

    return change


def median(x: Tensor) -> Tensor:
    """Filter by the median of 3x3 pixels."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    patches = padded.unfold(2, 3, 1).unfold(3, 3, 1)
    return patches.flatten(4).median(dim=4).values


def hashed_noise(scale: float) -> Change:
    """Add noise that is a function of the image."""

    def change(x: Tensor) -> Tensor:
        wild = (
            torch.sin(x.detach() * 12_989.8 + x.detach().flatten(1).sum(1).reshape(-1, 1, 1, 1) * 78_233.0) * 43_758.5
        )
        return x + scale * (2 * (wild - wild.floor()) - 1)

    return change


def misleading(x: Tensor) -> Tensor:
    """Reverse the gradient of every second pixel, and leave the values as they are."""
    sign = torch.ones_like(x)
    sign.flatten(1)[:, ::2] = -1
    return x.detach() + sign * (x - x.detach())


def useless(x: Tensor) -> Tensor:
    """Return the pixels with the gradient of pixels drawn from elsewhere: never 0, and of no use."""
    order = torch.randperm(x[0].numel(), generator=torch.Generator().manual_seed(0)).to(x.device)
    other = x.flatten(1)[:, order].view_as(x)
    return x.detach() + other - other.detach()


def rippled(scale: float, frequency: float) -> Change:
    """Add a fine wave to the pixels: it hardly changes them and dominates the gradient."""
    return lambda x: x + scale * torch.sin(frequency * x)


class Faint(nn.Module):
    """The network on rounded pixels, plus a faint linear path that points elsewhere."""

    def __init__(self, net: nn.Module, levels: int = 4, strength: float = 1e-3) -> None:
        super().__init__()
        self.net, self.levels, self.strength = net, levels, strength

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(steps(self.levels)(x))
        flat = x.flatten(1)
        draw = torch.Generator().manual_seed(0)
        path = torch.randn(flat.shape[1], logits.shape[1], generator=draw).to(x.device)
        return logits + self.strength * flat @ path


class LooksAtGrad(nn.Module):
    """Another network where gradients are computed."""

    def __init__(self, net: nn.Module, looks: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.net, self.looks = net, looks

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits.roll(1, dims=1) if self.looks(x) else logits


class NoisyWeights(nn.Module):
    """A network whose convolution and linear weights are multiplied by fresh noise in every pass."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x: Tensor) -> Tensor:
        drawn = {
            name: p * (1 + self.scale * torch.randn_like(p)) if p.dim() > 1 else p
            for name, p in self.net.named_parameters()
        }
        logits: Tensor = torch.func.functional_call(self.net, drawn, (x,))
        return logits


class BatchNormed(nn.Module):
    """A batch norm of the logits that uses the batch's statistics in every mode, and keeps them or not."""

    def __init__(self, net: nn.Module, *, keep: bool) -> None:
        super().__init__()
        self.net, self.keep = net, keep
        self.register_buffer("mean", torch.zeros(10))
        self.register_buffer("var", torch.ones(10))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        mean, var = (self.mean, self.var) if self.keep else (None, None)
        if len(x) == 1:
            return logits
        return 5 * F.batch_norm(logits, mean, var, training=True)


class AlwaysTraining(nn.Module):
    """A network with a layer that no call of `eval` reaches."""

    def __init__(self, net: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.net, self.layer = net, layer

    def train(self, mode: bool = True) -> AlwaysTraining:
        super().train(mode)
        self.layer.train(True)
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.layer(x))
        return logits


class Quantised(torch.autograd.Function):
    """Values in few steps, by a function of its own whose gradient is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return torch.zeros_like(gradient)


class Replaced(nn.Module):
    """A network whose activation layers are replaced."""

    def __init__(self, net: nn.Module, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        for module in list(net.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.ReLU):
                    setattr(module, name, activation())
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits


class Function(nn.Module):
    """A function as a layer."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(x)


def replaced(change: Change) -> Wrap:
    return lambda net: Replaced(net, lambda: Function(change))


def no_grad(net: nn.Module) -> nn.Module:
    class Without(Around):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    return Without(net)


def fixed_seed_noise(x: Tensor) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return x + 0.2 * torch.randn(x.shape, generator=draw).to(x.device)


PLANTED: dict[str, Wrap] = {
    "logits x 1e2": after(lambda z: z * 1e2),
    "logits x 1e4": after(lambda z: z * 1e4),
    "logits x 1e6": after(lambda z: z * 1e6),
    "logits x 1e-6 in float32 steps": after(lambda z: (z * 1e-6 + 1) - 1),
    "input in 3 steps": before(steps(2)),
    "input in 5 steps": before(steps(4)),
    "input in 9 steps": before(steps(8)),
    "input in 17 steps": before(steps(16)),
    "input in 9 steps, own function": before(Quantised.apply),
    "sign of the input": before(lambda x: (x > 0.5).float()),
    "step activation": replaced(lambda x: (x > 0).to(x.dtype)),
    "activation in steps": replaced(lambda x: (x * 2).round() / 2),
    "softmax": after(lambda z: z.softmax(1)),
    "softmax of logits x 100": after(lambda z: (100 * z).softmax(1)),
    "log of clipped softmax": after(lambda z: z.softmax(1).clamp(1e-2, 1 - 1e-2).log()),
    "log of softmax clipped at 1e-4": after(lambda z: (3 * z).softmax(1).clamp(1e-4, 1).log()),
    "saturated sigmoid": after(lambda z: torch.sigmoid(20 * z)),
    "saturated tanh": after(lambda z: 10 * torch.tanh(20 * (z - z.mean(1, keepdim=True)))),
    "rounded logits": after(lambda z: (z / 4).round() * 4),
    "hard labels": after(lambda z: F.one_hot(z.argmax(1), z.shape[1]).to(z.dtype)),
    "noise in logits": after(lambda z: z + 0.5 * torch.randn_like(z)),
    "noise in input": before(lambda x: x + 0.1 * torch.randn_like(x)),
    "noise in weights": lambda net: NoisyWeights(net, 0.3),
    "noise of one seed": before(fixed_seed_noise),
    "noise hashed from the input": before(hashed_noise(0.1)),
    "dropout left on": before(lambda x: F.dropout(x, 0.3, training=True)),
    "random shift": before(lambda x: torch.roll(x, int(torch.randint(-1, 2, ())), dims=3)),
    "detached input": before(lambda x: x.detach()),
    "detached logits": after(lambda z: z.detach()),
    "no_grad inside": no_grad,
    "constant": after(lambda z: z * 0),
    "constant but for a bias": after(lambda z: z * 0 + torch.arange(z.shape[1], device=z.device)),
    "batch norm in training mode": lambda net: BatchNormed(net, keep=True),
    "batch norm of the batch": lambda net: BatchNormed(net, keep=False),
    "dropout that ignores eval": lambda net: AlwaysTraining(net, nn.Dropout(0.3)),
    "reversed gradient": before(misleading),
    "useless gradient": before(useless),
    "straight-through, rounded, reversed": before(with_gradient_of(steps(4), lambda x: -x)),
    "rounded with a faint path": Faint,
    "rounded with a faint own path": before(lambda x: steps(4)(x) + 1e-4 * x),
    "fine ripple on pixels": before(rippled(0.02, 2000.0)),
    "fine ripple on logits": after(lambda z: z + 0.05 * torch.sin(400 * z)),
    "other logits with requires_grad": lambda net: LooksAtGrad(net, lambda x: x.requires_grad),
    "other logits with grad mode": lambda net: LooksAtGrad(net, lambda x: torch.is_grad_enabled()),
    "other logits in a batch": lambda net: LooksAtGrad(net, lambda x: len(x) > 7),
    "JPEG": before(jpeg(0.25)),
    "JPEG, coarse": before(jpeg(0.5)),
    "median filter of steps": before(lambda x: median(steps(6)(x))),
    "gradient of no scale": after(lambda z: z.detach() + 1e-30 * (z - z.detach())),
    "gradient clipped to nothing": before(lambda x: x.detach() + 1e-38 * (x - x.detach())),
}
"""What each does is its name. Those of an activation keep few of the weights' meaning, and are trained with it."""


def top_k(share: float) -> Callable[[int], nn.Module]:
    """Return the layer that keeps a share of its units."""
    return lambda units: TopK(max(1, round(share * units)))
