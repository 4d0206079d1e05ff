"""Models: specs that build networks, and the normalisation layer in front of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainables.core.registry import Registry
from trainables.models.base import Model
from trainables.models.lenet import Conv4, LeNet5, LeNet300, Linear
from trainables.models.resnet import ResNet18, ResNet20, ResNet32, ResNet56, Wrn28x4, Wrn28x10
from trainables.models.vgg import Vgg16
from trainables.models.zoo import Torchvision

if TYPE_CHECKING:
    from trainables.data.tensors import TrainingData
    from trainables.models.normalised import Normalised

MODELS: Registry[Model] = Registry(
    "model",
    Model,
    {
        "linear": Linear,
        "lenet300": LeNet300,
        "lenet5": LeNet5,
        "conv4": Conv4,
        "resnet20": ResNet20,
        "resnet32": ResNet32,
        "resnet56": ResNet56,
        "resnet18": ResNet18,
        "vgg16": Vgg16,
        "wrn28_4": Wrn28x4,
        "wrn28_10": Wrn28x10,
        "torchvision": Torchvision,
    },
)


def build(
    spec: Model,
    *,
    shape: tuple[int, int, int],
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
) -> Normalised:
    """Build the network of `spec` on the CPU behind its normalisation layer, in training mode.

    The seed decides the initial weights; torch's global generators are left as they were.

    Shapes: images (N, *shape) in [0, 1] to logits (N, classes); one mean and std per channel.
    Raises:
        SpecError: the network cannot take images of this shape.
    """
    from trainables.models.normalised import build_normalised

    return build_normalised(spec, shape, classes, mean, std, seed)


def build_for(data: TrainingData, spec: Model, *, seed: int) -> Normalised:
    """Build the network of `spec` for a data set, as `build` does.

    Raises:
        SpecError: the network cannot take its images.
    """
    return build(spec, shape=data.shape, classes=data.classes, mean=data.mean, std=data.std, seed=seed)
