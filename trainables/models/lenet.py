"""The small nets of the lottery-ticket literature: LeNet-300-100, LeNet-5 and Conv-4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from trainables.core.errors import SpecError
from trainables.models.base import Model, require_pixels

if TYPE_CHECKING:
    from torch import nn


class LeNet300(Model):
    """LeNet-300-100: fully connected, ReLU, on the flattened image of any shape.

    Zero biases. Source: Frankle & Carbin 2019, arXiv:1803.03635 fig. 2; without `bias` and with `init: glorot_uniform`
    the net of Cosentino et al. 2019.
    """

    perceptron: ClassVar[bool] = True
    kind: Literal["lenet300"] = "lenet300"
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        default=(300, 100), description="units of the hidden layers"
    )
    bias: bool = Field(default=True, description="whether layers have biases")
    init: Literal["glorot_normal", "glorot_uniform"] = Field(
        default="glorot_normal", description="distribution of the initial weights"
    )
    active: float = Field(
        default=1.0, gt=0, le=1, description="share of a hidden layer's units, the largest, that are not set to 0"
    )

    @property
    def hides_gradients(self) -> bool:
        return self.active < 1

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from trainables.models.nets import plain

        uniform = self.init == "glorot_uniform"
        return plain.mlp(shape, self.hidden, classes, bias=self.bias, uniform=uniform, active=self.active)


class Linear(Model):
    """Logistic regression on the pixels of images of any shape; Glorot-normal weights, zero biases."""

    kind: Literal["linear"] = "linear"
    single: bool = Field(
        default=False,
        description="one weight per pixel, for two classes: the sign of w.x + b decides; without it each class has "
        "weights of its own",
    )

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from trainables.models.nets import plain

        if self.single:
            if classes != 2:
                raise SpecError(f"model.single is for two classes, and the data have {classes}")
            return plain.binary(shape)
        return plain.mlp(shape, (), classes)


class LeNet5(Model):
    """LeNet-5 in Caffe's form: convolutions of 20 and 50 filters (5x5, no padding), then 500 units.

    Glorot-normal weights, zero biases. Source: LeCun et al. 1998; Caffe's `lenet.prototxt`, with ReLU after the
    convolutions as well.
    """

    kind: Literal["lenet5"] = "lenet5"

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from trainables.models.nets import plain

        require_pixels(self.kind, shape, 16)
        return plain.lenet5(shape, classes)


class Conv4(Model):
    """Conv-4: 64, 64, pool, 128, 128, pool (3x3), then 256, 256 units.

    Glorot-normal weights, zero biases. Source: Frankle & Carbin 2019, arXiv:1803.03635 fig. 2.
    """

    kind: Literal["conv4"] = "conv4"

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from trainables.models.nets import plain

        require_pixels(self.kind, shape, 4)
        return plain.conv4(shape, classes)
