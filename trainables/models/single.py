"""Whether a network can be trained on one image: batch norm of one value per channel cannot."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.models.isolation import isolated
from trainables.store.state import duplicate

REFUSAL = "Expected more than 1 value per channel when training"
"""How torch's message begins where batch norm has one value per channel."""


def trains_on_one(model: nn.Module, image: Tensor) -> bool:
    """Return whether a pass of one image in training mode works, or fails for other reasons than batch norm.

    The model and all random generators stay as they are. Shapes: image (1, C, H, W) in [0, 1].
    """
    try:
        with isolated(on=image.device), torch.no_grad():
            duplicate(model).train()(image)
    except Exception as error:
        return not str(error).startswith(REFUSAL)
    return True
