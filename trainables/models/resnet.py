"""Residual networks for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from trainables.models.base import Model

if TYPE_CHECKING:
    from torch import nn


class _CifarResNet(Model):
    """The CIFAR ResNet of depth 6n + 2: stages of 16, 32 and 64 filters, shortcuts without parameters (option A).

    He-normal weights. Source: He et al. 2016, arXiv:1512.03385.
    """

    blocks: ClassVar[int]

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from trainables.models.nets.resnet import CifarResNet

        return CifarResNet(shape[0], classes, blocks=self.blocks)


class ResNet20(_CifarResNet):
    """ResNet-20: 0.27 M parameters."""

    kind: Literal["resnet20"] = "resnet20"
    blocks = 3


class ResNet32(_CifarResNet):
    """ResNet-32: 0.46 M parameters."""

    kind: Literal["resnet32"] = "resnet32"
    blocks = 5


class ResNet56(_CifarResNet):
    """ResNet-56: 0.85 M parameters."""

    kind: Literal["resnet56"] = "resnet56"
    blocks = 9


class ResNet18(Model):
    """ResNet-18 for 32x32 images: 3x3 stem without pooling, stages of 64 to 512 filters; 11.2 M parameters.

    Parameter names and shapes are those of the base net of the adversarial pruning benchmark. He-normal
    weights. Source: He et al. 2016, arXiv:1512.03385; Piras et al. 2024, arXiv:2409.01249.
    """

    kind: Literal["resnet18"] = "resnet18"

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from trainables.models.nets.resnet import ResNet18Net

        return ResNet18Net(shape[0], classes)


class _Wide(Model):
    """A wide residual network with pre-activation blocks, without dropout.

    He-normal weights. Source: Zagoruyko & Komodakis 2016, arXiv:1605.07146 table 1.
    """

    depth: ClassVar[int] = 28
    width: ClassVar[int]

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from trainables.models.nets.wide import WideResNet

        return WideResNet(shape[0], classes, depth=self.depth, width=self.width)


class Wrn28x4(_Wide):
    """WideResNet-28-4: 5.8 M parameters."""

    kind: Literal["wrn28_4"] = "wrn28_4"
    width = 4


class Wrn28x10(_Wide):
    """WideResNet-28-10: 36.5 M parameters."""

    kind: Literal["wrn28_10"] = "wrn28_10"
    width = 10
