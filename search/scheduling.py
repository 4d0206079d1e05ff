"""The name that schedulers of early stopping were first published under: `search.early_stopping`."""

from __future__ import annotations

from search.early_stopping import SCHEDULERS, Scheduler

__all__ = ["SCHEDULERS", "Scheduler"]
