"""Every registered tracker, by its kit, and what their own libraries read back from a study."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.results.exporters import TRACKERS, OutputError, export, format_of, render
from search.results.exporters.mlflow import keys
from search.results.exporters.runs import Run, runs
from search.results.exporters.tracker import Tracker, alone
from search.results.study import Study
from search.testing.exporters import TrackerKit
from tests.search import factories

pytestmark = pytest.mark.slow
FORMATS = sorted(TRACKERS)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(factories.make_study(tmp_path_factory.mktemp("kit") / "synthetic", 12))


class TestTrackers(TrackerKit):
    @pytest.fixture(params=FORMATS)
    def tracker(self, request: pytest.FixtureRequest) -> Tracker:
        tracker = TRACKERS.parse(request.param)
        for module in tracker.modules:
            pytest.importorskip(module)
        return tracker

    @pytest.fixture
    def names(self, tracker: Tracker) -> Callable[[Path], Iterable[str]]:
        return partial(NAMES[tracker.kind])


def exported(study: Study, format: str, output: Path) -> Path:
    pytest.importorskip(TRACKERS[format].modules[0])
    assert export(study, "trials", format, output) == output
    return output


def mlflow_runs(folder: Path) -> dict[str, Any]:
    """Return MLflow's runs by name, as its own client reads them."""
    with alone("MLFLOW_", {"MLFLOW_DISABLE_TELEMETRY": "true"}, ("mlflow", "alembic")):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        experiments = [each.experiment_id for each in client.search_experiments() if each.name != "Default"]
        found = {run.info.run_name: run for run in client.search_runs(experiments, max_results=1000)}
        for run in found.values():
            run.history = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        client._tracking_client.store.engine.dispose()
    return found


def wandb_records(folder: Path) -> dict[str, list[Any]]:
    """Return the records of each offline run by its name.

    The file is a log in LevelDB's format after a header of 7 bytes: blocks of 32 KiB with records in parts.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    found = {}
    for file in folder.glob("wandb/*/*.wandb"):
        content = file.read_bytes()
        assert content[:4] == b":W&B"
        records = [Record.FromString(part) for part in _joined(content)]
        (name,) = (record.run.display_name for record in records if record.WhichOneof("record_type") == "run")
        found[name] = records
    return found


def _joined(content: bytes) -> Iterator[bytes]:
    at, parts = 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


NAMES: dict[str, Callable[[Path], Iterable[str]]] = {
    "mlflow": mlflow_runs,
    "tensorboard": lambda folder: [path.name for path in folder.iterdir() if len(list(path.iterdir())) == 1],
    "wandb": wandb_records,
}


def series(run: Run, name: str) -> list[tuple[int, float]]:
    kind, _, value = name.partition("/")
    return [(row.step, row.values[value]) for row in run.rows if row.series == kind and value in row.values]


def test_mlflow_reads_every_number_back(study: Study, tmp_path: Path) -> None:
    found = mlflow_runs(exported(study, "mlflow", tmp_path / "x"))
    states = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "waiting": "SCHEDULED"}
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["mlflow.db"]
    for run in runs(study):
        stored = found.pop(run.name)
        assert stored.info.status == states[run.state]
        assert stored.info.start_time == round(1000 * run.started)
        assert stored.info.end_time == (round(1000 * run.finished) if run.finished else None)
        assert stored.data.params == {
            path: value if isinstance(value, str) else json.dumps(value) for path, value in run.params.items()
        }
        assert run.tags.items() <= stored.data.tags.items()
        assert {key: value for key, value in stored.data.metrics.items() if "/" not in key} == run.final
        for key, history in stored.history.items():
            if "/" in key:
                assert sorted((each.step, each.value) for each in history) == sorted(series(run, key))
        assert {f"point/{name}" for row in run.rows for name in row.values} <= set(stored.data.metrics)
    assert not found


def test_tensorboard_reads_every_number_back(study: Study, tmp_path: Path) -> None:
    """In single precision, which is that of its scalars."""
    folder = exported(study, "tensorboard", tmp_path / "x")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    assert len(list(folder.iterdir())) == 12
    for run in runs(study):
        events = EventAccumulator(str(folder / run.name)).Reload()
        tags = set(events.Tags()["scalars"])
        assert tags == {f"point/{n}" for row in run.rows for n in row.values} | {f"final/{n}" for n in run.final}
        for tag in tags - {f"final/{name}" for name in run.final}:
            scalars = sorted((each.step, each.value) for each in events.Scalars(tag))
            assert scalars == sorted((step, float(np.float32(value))) for step, value in series(run, tag))
        for name, value in run.final.items():
            assert [each.value for each in events.Scalars(f"final/{name}")] == [float(np.float32(value))]
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        params = HParamsPluginData.FromString(content).session_start_info.hparams
        assert params["recipe.sparsity"].number_value == run.params["recipe.sparsity"]
        assert params["recipe.train.loss.kind"].string_value == run.params["recipe.train.loss.kind"]
        (about,) = events.Tensors("about/text_summary" if "about/text_summary" in events.Tags()["tensors"] else "about")
        assert f"| {run.state} |".encode() in about.tensor_proto.string_val[0]


def test_wandb_reads_every_number_back(study: Study, tmp_path: Path) -> None:
    folder = exported(study, "wandb", tmp_path / "x")
    found = wandb_records(folder)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".wandb"}
    for run in runs(study):
        records = found.pop(run.name)
        head = next(record.run for record in records if record.WhichOneof("record_type") == "run")
        config = {update.key: json.loads(update.value_json) for update in head.config.update}
        assert run.params.items() <= config.items()
        assert config["robustsearch"] == {**run.tags, "started": run.started, "finished": run.finished}
        assert (head.project, head.run_id, head.host) == ("synthetic", f"synthetic-{run.name}", "robustsearch")
        rows = []
        for record in records:
            if record.WhichOneof("record_type") == "history":
                items = {item.nested_key[0] or item.key: json.loads(item.value_json) for item in record.history.item}
                rows.append({key: value for key, value in items.items() if not key.startswith("_")})
        assert rows == [{f"{row.series}/{key}": value for key, value in row.values.items()} for row in run.rows]
        (end,) = (record.exit for record in records if record.WhichOneof("record_type") == "exit")
        assert end.exit_code == (run.state == "failed")
    assert not found


@given(st.lists(st.text(alphabet="ab./_-: =%é\x00", max_size=6), unique=True, max_size=8))
def test_mlflow_accepts_every_name_and_keeps_them_apart(names: list[str]) -> None:
    pytest.importorskip("mlflow")
    with alone("MLFLOW_", {"MLFLOW_DISABLE_TELEMETRY": "true"}):
        from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

        found = keys(names)
        assert list(found) == names
        assert len(set(found.values())) == len(names)
        for key in found.values():
            for check in (_validate_metric_name, _validate_param_name, _validate_tag_name):
                check(key)
    assert keys(["recipe.train.loss.kind", "point/metric.x"]) == {
        "recipe.train.loss.kind": "recipe.train.loss.kind",
        "point/metric.x": "point/metric.x",
    }


@pytest.mark.parametrize("format", FORMATS)
class TestEveryTracker:
    def test_nothing_is_replaced_and_a_failure_leaves_nothing(
        self, study: Study, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip(TRACKERS[format].modules[0])
        target = tmp_path / "x"
        target.mkdir()
        (target / "mine").write_text("notes")
        with pytest.raises(OutputError, match="is not empty; name a new directory"):
            export(study, "trials", format, target)
        with pytest.raises(OutputError, match="is a file; name a new directory"):
            export(study, "trials", format, target / "mine")
        with pytest.raises(OutputError, match="inside the study's directory"):
            export(study, "trials", format, Path(study.records.storage.location) / "x")

        def fail(*_: object) -> None:
            raise OSError(5, "broken")

        monkeypatch.setattr(TRACKERS[format], "write", fail)
        with pytest.raises(Exception, match="broken"):
            export(study, "trials", format, tmp_path / "new")
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "x"]

    def test_it_is_for_a_named_directory_alone(self, study: Study, format: str, tmp_path: Path) -> None:
        assert format_of(tmp_path / "x.d", format) == format
        for write in (lambda: render(study, "trials", format), lambda: export(study, "trials", format, None)):
            with pytest.raises(OutputError, match=f"{format} writes a directory; name one with --output"):
                write()

    def test_a_study_without_trials_has_nothing_to_write(self, format: str, tmp_path: Path) -> None:
        pytest.importorskip(TRACKERS[format].modules[0])
        empty = Study(factories.make_study(tmp_path / "s", 0))
        with pytest.raises(OutputError, match="has no trial yet"):
            export(empty, "trials", format, tmp_path / "x")
        assert not (tmp_path / "x").exists()
