"""Wide residual networks with pre-activation blocks."""

from __future__ import annotations

from torch import Tensor, nn

from trainables.models.nets.initial import he


class PreActivationBlock(nn.Module):
    """BN, ReLU, 3x3 convolution, twice; a shortcut that changes shape starts after the first ReLU."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.changes = inside != outside or stride != 1
        self.shortcut = nn.Conv2d(inside, outside, 1, stride=stride, bias=False) if self.changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.bn1(x))
        out = self.conv2(self.relu(self.bn2(self.conv1(active))))
        total: Tensor = self.shortcut(active if self.changes else x) + out
        return total


class WideResNet(nn.Module):
    """WideResNet-`depth`-`width`: three stages of (depth - 4) / 6 blocks."""

    def __init__(self, channels: int, classes: int, *, depth: int, width: int) -> None:
        super().__init__()
        assert (depth - 4) % 6 == 0, "a wide residual network has a depth of 6n + 4"
        blocks = (depth - 4) // 6
        filters = (16, 16 * width, 32 * width, 64 * width)
        self.conv1 = nn.Conv2d(channels, filters[0], 3, padding=1, bias=False)
        self.block1 = self._stage(filters[0], filters[1], 1, blocks)
        self.block2 = self._stage(filters[1], filters[2], 2, blocks)
        self.block3 = self._stage(filters[2], filters[3], 2, blocks)
        self.bn1 = nn.BatchNorm2d(filters[3])
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(filters[3], classes)
        he(self)
        nn.init.zeros_(self.fc.bias)

    @staticmethod
    def _stage(inside: int, outside: int, stride: int, blocks: int) -> nn.Sequential:
        rest = [PreActivationBlock(outside, outside, 1) for _ in range(blocks - 1)]
        return nn.Sequential(PreActivationBlock(inside, outside, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(self.flatten(self.pool(self.relu(self.bn1(x)))))
        return logits
