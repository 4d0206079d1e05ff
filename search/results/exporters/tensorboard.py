"""TensorBoard: a directory of event files for each trial, with its hyperparameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from search.results.exporters.markdown import escape
from search.results.exporters.runs import Run
from search.results.exporters.tracker import Tracker, alone, shortened

EVENTS = "events.out.tfevents.0.robustsearch"


class TensorBoard(Tracker):
    """A directory for `tensorboard --logdir DIR`; its scalars have single precision."""

    kind: Literal["tensorboard"] = "tensorboard"
    extra: ClassVar[str] = "tensorboard"
    modules: ClassVar[tuple[str, ...]] = ("tensorboard",)

    def write(self, runs: Sequence[Run], folder: Path, output: Path) -> None:
        with alone("TF_", {}, ("tensorboard",)):
            from tensorboard.summary.writer.record_writer import RecordWriter

            for run in runs:
                where = folder / run.name
                where.mkdir()
                with open(where / EVENTS, "wb") as file:
                    writer = RecordWriter(file)
                    for event in _events(run):
                        writer.write(event.SerializeToString())
                    writer.flush()


def _events(run: Run) -> list[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    def scalars(series: str, values: Any) -> Any:
        named = ((f"{series}/{name}", value) for name, value in values.items())
        return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in named])

    params = {path: _hparam(value) for path, value in run.params.items()}
    about = {"study": run.study, "state": run.state} | {f"tag.{name}": text for name, text in run.tags.items()}
    hparams = hparams_pb({**params, "state": run.state}, trial_id=run.name, start_time_secs=run.started)
    end = run.finished or run.started
    return [
        Event(wall_time=run.started, file_version="brain.Event:2"),
        Event(wall_time=run.started, step=0, summary=Summary.FromString(hparams.SerializeToString())),
        Event(wall_time=run.started, step=0, summary=_text("about", about)),
        *(Event(wall_time=row.time, step=row.step, summary=scalars(row.series, row.values)) for row in run.rows),
        Event(wall_time=end, step=0, summary=scalars("final", run.final)),
    ]


def _hparam(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)):
        return shortened(value, 1000) if isinstance(value, str) else value
    return json.dumps(value)


def _text(tag: str, facts: dict[str, str]) -> Any:
    """Return facts as a table that TensorBoard renders from Markdown."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    lines = ["| | |", "| :--- | :--- |", *(f"| {escape(name)} | {escape(text)} |" for name, text in facts.items())]
    plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    tensor = TensorProto(dtype=DT_STRING, string_val=["\n".join(lines).encode("utf-8", "replace")])
    return Summary(value=[Summary.Value(tag=tag, metadata=plugin, tensor=tensor)])
