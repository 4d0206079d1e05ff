"""What a rewiring is: when masks change within a training."""

from __future__ import annotations

from typing import Literal

from trainables.core.spec import Spec


class Rewiring(Spec):
    """Base of every rewiring. Steps count from 1 to all `steps` of a training."""

    kind: str

    def due(self, step: int, steps: int) -> bool:
        """Say whether masks change after this step."""
        return False

    def settled(self, step: int, steps: int) -> bool:
        """Say whether the network is as sparse as it is to become after this step."""
        return True


class Fixed(Rewiring):
    """The masks stay."""

    kind: Literal["fixed"] = "fixed"
