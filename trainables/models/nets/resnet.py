"""Residual networks with basic blocks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.models.nets.initial import he


def _conv3(inside: int, outside: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)


class PadShortcut(nn.Module):
    """Option A: every second pixel, and zeros for the channels that are new."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, x: Tensor) -> Tensor:
        front = self.more // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, front, self.more - front))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = _conv3(inside, outside, stride)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = _conv3(outside, outside)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        total: Tensor = self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))
        return total


class CifarResNet(nn.Module):
    """Three stages of 16, 32 and 64 filters, `blocks` blocks each, parameter-free shortcuts."""

    def __init__(self, channels: int, classes: int, *, blocks: int) -> None:
        super().__init__()
        self.conv1 = _conv3(channels, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._stage(16, 16, blocks)
        self.layer2 = self._stage(16, 32, blocks)
        self.layer3 = self._stage(32, 64, blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, classes)
        he(self)

    @staticmethod
    def _stage(inside: int, outside: int, blocks: int) -> nn.Sequential:
        if inside == outside:
            first = BasicBlock(inside, outside, 1, nn.Identity())
        else:
            first = BasicBlock(inside, outside, 2, PadShortcut(outside - inside))
        return nn.Sequential(first, *[BasicBlock(outside, outside, 1, nn.Identity()) for _ in range(blocks - 1)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.flatten(self.pool(x)))
        return logits


class ResNet18Net(nn.Module):
    """Four stages of two blocks with 64, 128, 256 and 512 filters; convolutions in the shortcuts that change shape."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = _conv3(channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._stage(64, 64, 1)
        self.layer2 = self._stage(64, 128, 2)
        self.layer3 = self._stage(128, 256, 2)
        self.layer4 = self._stage(256, 512, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(512, classes)
        he(self)

    @staticmethod
    def _stage(inside: int, outside: int, stride: int) -> nn.Sequential:
        # An empty sequence passes its input on.
        shortcut = nn.Sequential()
        if stride != 1:
            shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride=stride, bias=False), nn.BatchNorm2d(outside))
        return nn.Sequential(
            BasicBlock(inside, outside, stride, shortcut), BasicBlock(outside, outside, 1, nn.Sequential())
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.linear(self.flatten(self.pool(x)))
        return logits
