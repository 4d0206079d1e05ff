"""Any classifier that torchvision builds by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from trainables.core.errors import SpecError
from trainables.core.registry import nearest
from trainables.models.base import Model

if TYPE_CHECKING:
    from torch import nn

# Auxiliary heads would return tuples in training, and these two warn where their initialisation is not chosen.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


class Torchvision(Model):
    """A torchvision classifier, untrained, as torchvision initialises it.

    The images must have three channels and, for some nets, a size of their own (the vision transformers: 224x224).
    """

    kind: Literal["torchvision"] = "torchvision"
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="name of the classifier in torchvision's documentation")

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from torchvision import models

        known = models.list_models(module=models)
        if self.name not in known:
            raise SpecError(f"unknown torchvision classifier '{self.name}'{nearest(self.name, known)}")
        if shape[0] != 3:
            raise SpecError(f"torchvision's {self.name} takes images of 3 channels; these have {shape[0]}")
        net: nn.Module = models.get_model(self.name, weights=None, num_classes=classes, **_ARGUMENTS.get(self.name, {}))
        return net
