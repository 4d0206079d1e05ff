"""Training losses: natural training, adversarial training, and trade-offs between the two."""

from __future__ import annotations

from trainables.core.registry import Registry
from trainables.losses.base import Loss
from trainables.losses.cross_entropy import Madry, Mix, Natural
from trainables.losses.mart import Mart
from trainables.losses.trades import Trades

LOSSES: Registry[Loss] = Registry(
    "loss", Loss, {"natural": Natural, "madry": Madry, "mix": Mix, "trades": Trades, "mart": Mart}
)
