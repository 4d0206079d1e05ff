"""VGG-16 with batch normalisation, shaped for 32x32 images."""

from __future__ import annotations

from torch import Tensor, nn

from trainables.models.nets.initial import he

GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16Net(nn.Module):
    """Five groups of 3x3 convolutions with poolings between them, pooled to 2x2, and three linear layers."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, group in enumerate(GROUPS):
            layers += [nn.MaxPool2d(2)] if index else []
            for filters in group:
                convolution = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]
                channels = filters
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(channels * 4, 256),
            nn.ReLU(inplace=True),
            nn.Linear(256, 256),
            nn.ReLU(inplace=True),
            nn.Linear(256, classes),
        )
        he(self)
        for module in self.classifier:
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.avgpool(self.features(x))))
        return logits
