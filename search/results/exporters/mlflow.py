"""MLflow: an SQLite store with one experiment, and a run for each trial."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from search.results.exporters.runs import Run
from search.results.exporters.tracker import Tracker, alone, shortened

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

FILE = "mlflow.db"
_STATES = {
    "complete": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
    "running": "RUNNING",
    "waiting": "SCHEDULED",
}
_FORBIDDEN = re.compile(r"[^\w\-. /:]")
_KEY, _VALUE, _BATCH = 250, 5000, 1000
"""MLflow's limits: of a name, of a value, and of the metrics that are written at once."""
_SILENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "ERROR"}


class MLflow(Tracker):
    """A directory with `mlflow.db`, for `mlflow ui --backend-store-uri sqlite:///DIR/mlflow.db`."""

    kind: Literal["mlflow"] = "mlflow"
    extra: ClassVar[str] = "mlflow"
    modules: ClassVar[tuple[str, ...]] = ("mlflow",)

    def write(self, runs: Sequence[Run], folder: Path, output: Path) -> None:
        with alone("MLFLOW_", _SILENT, ("mlflow", "alembic")):
            from mlflow.tracking import MlflowClient

            uri = f"sqlite:///{folder / FILE}"
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            artifacts = (output.absolute() / "artifacts").as_uri()
            if runs:
                experiment = client.create_experiment(runs[0].study, artifact_location=artifacts)
                for run in runs:
                    _write_run(client, experiment, run)
            client._tracking_client.store.engine.dispose()


def _write_run(client: MlflowClient, experiment: str, run: Run) -> None:
    from mlflow.entities import Metric, Param

    tags = {key: shortened(run.tags[name], _VALUE) for name, key in keys(run.tags).items()}
    tags |= {"mlflow.source.name": "robustsearch"}
    started = round(1000 * run.started)
    made = client.create_run(experiment, start_time=started, tags=tags, run_name=run.name).info.run_id
    params = [Param(key, shortened(_text(run.params[path]), _VALUE)) for path, key in keys(run.params).items()]
    for some in _batches(params, 100):
        client.log_batch(made, params=some)
    for some in _batches(_metrics(run, Metric), _BATCH):
        client.log_batch(made, metrics=some)
    finished = None if run.finished is None else round(1000 * run.finished)
    if run.state in ("running", "waiting"):
        client.update_run(made, status=_STATES[run.state])
    else:
        client.set_terminated(made, status=_STATES[run.state], end_time=finished)


def _metrics(run: Run, metric: Any) -> Iterator[Metric]:
    end = round(1000 * (run.finished or run.started))
    numbers = [(name, value, end, 0) for name, value in run.final.items()]
    for row in run.rows:
        moment = round(1000 * row.time)
        numbers += [(f"{row.series}/{name}", value, moment, row.step) for name, value in row.values.items()]
    known = keys(name for name, *_ in numbers)
    for name, value, moment, step in numbers:
        yield metric(known[name], value, moment, step)


def _batches(items: Any, size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def keys(names: Iterable[str]) -> dict[str, str]:
    """Return names as MLflow accepts them: of its characters, as the only way to write a path, and all different."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        parts = [part.strip(" .") for part in _FORBIDDEN.sub("_", name).split("/")]
        key = "/".join(filter(None, parts))[: _KEY - 5].rstrip("/. ") or "_"
        same = (f"{key}{end}" for end in ("", *(f"_{number}" for number in range(2, 9999))))
        found[name] = next(each for each in same if each not in taken)
        taken.add(found[name])
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
