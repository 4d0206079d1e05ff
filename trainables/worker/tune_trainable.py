"""The Ray adapter of a trial: a Tune trainable whose every step is one result.

The driver imports it too, and no torch with it.
"""

from __future__ import annotations

import gc
import socket
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.exceptions import RayActorError

from trainables.core.errors import StorageError
from trainables.worker.preemption import Preempted, Preemption

if TYPE_CHECKING:
    from trainables.worker.progress import Progress


class RobustsearchTrial(tune.Trainable):
    """One trial after another in one process; the configuration is a `Job`'s, and a `title`.

    A storage that refuses twice leaves the trial unfinished, as the result's `storage` says. Tune restarts the trial
    of a process that dies, which resumes from the stored stages; so does the trial of a worker that SIGTERM preempts,
    which does not count as a failure.
    """

    _settled = False

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Ask for what the cluster file gives a trial."""
        return tune.PlacementGroupFactory([config["resources"]])

    def __repr__(self) -> str:
        """Return what stays true: Ray asks once, when the worker starts, and shows it for all its trials."""
        return f"{self._job.config['study']} worker"

    def setup(self, config: dict[str, Any]) -> None:
        """Start with a trial."""
        import trainables.worker.job  # noqa: F401  It loads torch, which the driver can do without.

        gc.freeze()  # What is loaded stays; to look at it takes the collector 0.2 s after every trial.
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        from trainables.worker.job import Job

        self._title, self._activity = config["title"], "starts"
        self._show()
        self._job = Job(config, own_process=True, noted=self._note)
        self._preemption = Preemption()
        self._preemption.trial_running = True

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drop the last trial and start with another, so that one process serves many."""
        from trainables.worker.job import release_memory

        self._title, self._activity = new_config["title"], "starts"
        self._show()
        requested = self._preemption.requested
        self.cleanup()
        release_memory()
        if not self._settled:
            gc.freeze()  # The first trial loads what the others use; what it left behind is gone by now.
            self._settled = True
        self._begin(new_config)
        self._preemption.requested = requested
        return True

    def step(self) -> dict[str, Any]:
        """Work until the next point, or for a moment, and return how far the trial is.

        Raises:
            RayActorError: the worker was preempted; Tune starts the trial elsewhere and does not count it.
        """
        self._show()
        progress: Progress | None = None
        refused: StorageError | None = None
        try:
            with self._preemption.interruptible():
                progress = self._job.work(lambda: self._preemption.requested)
        except Preempted:
            self._preemption.requested = True
        except StorageError as error:
            refused = error
        if self._preemption.requested and not self._job.over:
            self._preemption.ignore_more()
            self._job.close()
            self._preemption.trial_running = False
            raise RayActorError(error_msg=f"the worker on {socket.gethostname()} was preempted", preempted=True)
        self._preemption.trial_running = not self._job.over and refused is None
        result = self._result(progress)
        return {**result, "storage": str(refused), "done": True} if refused else result

    def cleanup(self) -> None:
        """Leave the trial; what it had stored stays."""
        self._preemption.ignore_more()
        self._job.close()
        self._preemption.restore()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Save nothing: the stages are the checkpoint."""
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing: the stages are the checkpoint."""

    def _result(self, progress: Progress | None) -> dict[str, Any]:
        result: dict[str, Any] = {"number": self._job.number, "points": len(self._job.points), "done": self._job.over}
        if self._job.new:
            result["new"] = [(type(one).__name__, one.model_dump_json()) for one in self._job.new]
        if progress is None:
            return result
        result |= {"phase": progress.phase, "phases_done": progress.phases_done, "phases": progress.phases}
        result["epochs_trained"] = progress.epochs_trained
        if progress.waits_for is not None:
            result["waits_for"] = progress.waits_for
        if progress.epoch is not None:
            result |= {"epoch": progress.epoch.epoch, "epochs": progress.epoch.epochs, "loss": progress.epoch.loss}
        return result

    def _note(self, progress: Progress) -> None:
        self._activity = progress.activity
        self._show()

    def _show(self) -> None:
        """Name the process after the trial and what it does until the call of Ray ends, for the dashboard and `ps`."""
        from ray import _raylet

        name, _, settings = self._title.partition(" ")
        title = f"ray::{name} {self._activity} {settings}"
        _raylet.setproctitle(title.strip())  # type: ignore[attr-defined]
