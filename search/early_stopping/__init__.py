"""Early stopping: which trials end before they are complete."""

from __future__ import annotations

from search.early_stopping.base import Scheduler
from search.early_stopping.registry import SCHEDULERS

__all__ = ["SCHEDULERS", "Scheduler"]
