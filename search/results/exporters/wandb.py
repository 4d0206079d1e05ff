"""Weights & Biases: offline runs, which `wandb sync` would send, one for each trial."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from search.results.exporters.runs import Run
from search.results.exporters.tracker import Tracker, alone, shortened
from trainables.core.errors import StorageError

_TAG = 64
"""Weights & Biases' limit of a tag's length."""
_OFFLINE = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", "DO_NOT_TRACK": "true"}


class WandB(Tracker):
    """A directory with offline runs in `wandb/`; nothing is sent."""

    kind: Literal["wandb"] = "wandb"
    extra: ClassVar[str] = "wandb"
    modules: ClassVar[tuple[str, ...]] = ("wandb",)

    def write(self, runs: Sequence[Run], folder: Path, output: Path) -> None:
        with alone("WANDB_", _OFFLINE, ("wandb",)):
            import wandb

            try:
                for run in runs:
                    _write_run(wandb, run, folder)
            finally:
                wandb.teardown()
        written = len(list(folder.glob("wandb/offline-run-*/*.wandb")))
        if written != len(runs):  # Another process writes them, and may fail without a word.
            raise StorageError(f"wandb wrote {written} of {len(runs)} runs; is the disk full?")
        _tidy(folder / "wandb")


def _write_run(wandb: Any, run: Run, folder: Path) -> None:
    flags = run.tags.get("flags", "").split(";")
    made = wandb.init(
        project=run.study,
        name=run.name,
        id=f"{run.study}-{run.name}",
        group=run.study,
        job_type=run.state,
        tags=[shortened(tag, _TAG) for tag in dict.fromkeys((run.state, *flags)) if tag],
        config={**run.params, "robustsearch": {**run.tags, "started": run.started, "finished": run.finished}},
        dir=str(folder),
        settings=_settings(wandb, folder),
    )
    for series, step in (("point", "sparsity"), ("train", "epoch")):
        made.define_metric(f"{series}/{step}")
        made.define_metric(f"{series}/*", step_metric=f"{series}/{step}")
    for row in run.rows:
        made.log({f"{row.series}/{name}": value for name, value in row.values.items()})
    made.summary.update({**run.final, "state": run.state})
    made.finish(exit_code=1 if run.state == "failed" else 0)


def _settings(wandb: Any, folder: Path) -> Any:
    return wandb.Settings(
        mode="offline",
        root_dir=str(folder),
        silent=True,
        console="off",
        host="robustsearch",
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


def _tidy(folder: Path) -> None:
    """Delete logs of this process and links to its last run."""
    for path in folder.glob("*"):
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            for name in ("logs", "tmp"):
                shutil.rmtree(path / name, ignore_errors=True)
