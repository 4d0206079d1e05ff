"""This process: trials run one after another where the launch runs, without Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from search.cluster.base import Cluster, ClusterError, Connection, ProbeRequest, checked_probe
from search.files.findings import Finding


class Inline(Cluster):
    """Run trials in this process, one at a time: for debuggers, notebooks and tests.

    A breakpoint in a model, recipe or plug-in stops there. A crash of a trial's process is a crash of the launch.
    """

    kind: Literal["inline"] = "inline"
    runner: ClassVar[Literal["tune", "inline"]] = "inline"
    this_machine: ClassVar[bool] = True
    live_view: ClassVar[bool] = False

    @field_validator("concurrency")
    @classmethod
    def _one_at_a_time(cls, concurrency: int | None) -> int | None:
        if concurrency not in (None, 1):
            raise ValueError(f"{concurrency} trials cannot run at once in one process; leave it out, or write 1")
        return concurrency

    def where(self) -> str:
        return "this process, one trial at a time"

    def opening(self) -> str:
        return "running trials in this process ..."

    @contextmanager
    def connect(
        self, code_paths: tuple[str, ...] = (), beside: Callable[[], None] | None = None
    ) -> Iterator[Connection]:
        import torch

        if self.gpus_per_trial > torch.cuda.device_count():
            raise ClusterError(
                f"a trial asks for {self.gpus_per_trial:g} GPUs, torch sees {torch.cuda.device_count()} on this machine"
            )
        threads, before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(self.cpus_per_trial)
        try:
            yield InlineConnection(self.gpus_per_trial)
        finally:
            torch.set_num_threads(threads)
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before

    def examine(self) -> Iterator[Finding]:
        yield Finding("ok", "cluster", "trials run in this process, without Ray")


class InlineConnection(Connection):
    """This process, as a cluster of one worker."""

    def __init__(self, gpus: float) -> None:
        super().__init__(capacity=1)
        self._gpus = gpus

    def probe(
        self, request: ProbeRequest, *, cancelled: Callable[[], bool], say: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """Run the probe here."""
        from trainables.worker import probe

        found = probe.probe(**vars(request), gpus=self._gpus)
        return None if cancelled() else checked_probe(found)

    def confirm(
        self, jobs: Sequence[dict[str, Any]], *, cancelled: Callable[[], bool], look: Callable[[], None]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        from trainables.worker import confirm

        looked, ended = 0.0, False

        def interrupted() -> bool:
            nonlocal looked, ended
            if time.monotonic() - looked >= 1.0:  # Attacks ask at every pass.
                look()
                ended = cancelled()
                looked = time.monotonic()
            return ended

        for number, job in enumerate(jobs):
            if cancelled():
                return
            yield number, confirm.run(job, interrupted)
