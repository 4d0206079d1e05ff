"""Attacks: one batched function per paper; `run` projects their results to the ball and the box."""

from __future__ import annotations

from trainables.attacks.aa import Ensemble
from trainables.attacks.registry import ATTACKS
from trainables.attacks.running import hunt, run
from trainables.attacks.worst import Worst

__all__ = ["ATTACKS", "hunt", "run"]

# Of a module that needs the registry: its attacks are made of others.
ATTACKS.include({"worst": Worst, "aa": Ensemble})
