"""The log of a worker: a line on stdout for every epoch, point and end of a trial, for the log pages of a dashboard."""

from __future__ import annotations

from trainables.engine.epoch import Epoch
from trainables.store.records import Outcome, Point
from trainables.worker.progress import Progress


class TrialLog:
    """What one trial does, a line at a time."""

    def __init__(self, number: int) -> None:
        """Begin every line with the number of the trial."""
        self._trial = f"trial {number}"
        self._waits_for: str | None = None
        self._sized = -1

    def progress(self, progress: Progress) -> None:
        """Write what is new: an epoch, a point, a partial measurement, or a process that is waited for."""
        before, self._waits_for = self._waits_for, progress.waits_for
        if progress.waits_for not in (None, before):
            self._write(f"waits for a stage that {progress.waits_for} computes")
        if (epoch := progress.epoch) is not None:
            self._write_size(progress.phase, progress.phases_done, epoch.size)
            said = f"loss {epoch.loss:.4g} accuracy {epoch.accuracy:.4f} {epoch.seconds:.3g} s"
            self._write(f"{progress.phase} {epoch.epoch}/{epoch.epochs} {said}{_graph(epoch)}")
        if (partial := progress.partial) is not None:
            self._write(f"{progress.phase} on the way: {_accuracies(partial.robust_accuracy, partial.clean_accuracy)}")
        if progress.point is not None:
            self._write(_point(progress.point))

    def end(self, outcome: Outcome) -> None:
        """Write how the trial ended."""
        points = f"{len(outcome.points)} point{'' if len(outcome.points) == 1 else 's'}"
        failure = outcome.failure
        said = "" if failure is None else f" ({failure.kind}): {failure.message.strip().partition(chr(10))[0]}"
        self._write(f"{outcome.state}, {points}, {outcome.seconds:.3g} s{said}")

    def _write_size(self, phase: str, number: int, size: str) -> None:
        """Write once a phase which network it trains, where filters are pruned whole."""
        if size and number != self._sized:
            self._write(f"{phase} {size}")
        self._sized = number

    def _write(self, said: str) -> None:
        print(f"{self._trial} {said}", flush=True)


def _graph(epoch: Epoch) -> str:
    if epoch.not_replayed is not None:
        return f", no CUDA graph: {epoch.not_replayed}"
    return f", {epoch.replayed} steps from a CUDA graph" if epoch.replayed else ""


def _point(point: Point) -> str:
    flags = f", {point.status}: {', '.join(point.flags)}" if point.flags else ""
    accuracies = _accuracies(point.robust_accuracy, point.clean_accuracy)
    return f"point {point.measure}: {accuracies} at {100 * point.sparsity:.2f} % sparsity, {point.seconds:.3g} s{flags}"


def _accuracies(robust: float, clean: float) -> str:
    return f"robust {robust:.4f} clean {clean:.4f}"
