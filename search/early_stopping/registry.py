"""The schedulers of early stopping that a study may name. A new one is a module with a `Scheduler`, and a line here."""

from __future__ import annotations

from search.early_stopping.base import Off, Scheduler
from search.early_stopping.moasha import Moasha
from search.early_stopping.reach import Reach
from trainables.core.registry import Registry

SCHEDULERS: Registry[Scheduler] = Registry("scheduler", Scheduler, {"none": Off, "moasha": Moasha, "reach": Reach})
