"""A recipe that trains nothing, so that a trial costs only what the search itself costs; and a clock in the workers.

Where `TIMES` names a folder, each worker that loads this plug-in writes down there when it works on trials.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Literal

from trainables.method.phases import Measure, Phase, Prune
from trainables.pruning import Pruning
from trainables.recipes import RECIPES
from trainables.recipes.base import Recipe


class NoWork(Recipe):
    """Prune the initial weights and measure."""

    kind: Literal["no_work"] = "no_work"

    def phases(self) -> tuple[Phase, ...]:
        return Prune(sparsity=self.sparsity, pruning=Pruning()), Measure()


RECIPES.register("no_work", NoWork)

TIMES = "ROBUSTSEARCH_OVERHEAD_TIMES"


def clock(folder: Path) -> None:
    """Write begin and end of every call of `Job.work` of this process, in Unix time, and whether its trial is over."""
    from trainables.worker.job import Job

    works = Job.work

    def timed(job: Job, *arguments: Any) -> Any:
        began = time.time()
        try:
            return works(job, *arguments)
        finally:
            with (folder / f"{os.getpid()}.txt").open("a") as file:
                file.write(f"{began} {time.time()} {int(job.over)}\n")

    Job.work = timed  # type: ignore[method-assign]


if folder := os.environ.get(TIMES):
    clock(Path(folder))
