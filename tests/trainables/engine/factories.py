"""The trainings of the conformance kits, for tests of the engine."""

from __future__ import annotations

from trainables.testing.trainings import KEY, data, end, network, phase, pruned, same, started

__all__ = ["EVERYTHING", "KEY", "data", "end", "network", "phase", "pruned", "same", "started"]

EVERYTHING = {"ema": 0.9, "crop": 1, "flip": True, "eps_warmup": 1.5, "label_smoothing": 0.1}
