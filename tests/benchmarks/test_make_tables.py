"""The tables hold what real trials measure."""

from __future__ import annotations

import json
from pathlib import Path

import make_tables
import pyarrow.parquet as pq
import pytest
import torch
from curves import Curves, chained, dense_paths, is_complete

from search.space.parameters import SPARSITY_PATH
from tests.benchmarks import made
from trainables.store.records import Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.run import Run


def test_the_first_training_depends_on_what_it_trains_with() -> None:
    assert dense_paths(made.study()) == [made.EPS, made.LOSS, made.L1]


@pytest.mark.slow
def test_a_table_is_made_in_sittings_and_every_round_ends_where_a_trial_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = made.study()
    monkeypatch.setattr(make_tables, "study", lambda name: spec)
    said: list[str] = []
    clock = iter(range(10**6))
    monkeypatch.setattr(make_tables.time, "monotonic", lambda: float(next(clock)))
    # A sitting of three minutes, of a minute for each look at the clock: the first look sets the end.
    missing = make_tables.make("made", 3 / 60, said.append, tmp_path)
    assert 0 < missing < 8
    path = tmp_path / "made.parquet"
    assert not is_complete(path)
    # As an older version wrote it, which did not know a field.
    begun = pq.read_table(path)
    older = {key: value for key, value in spec.resolved().items() if key != "description"}
    pq.write_table(begun.replace_schema_metadata({**begun.schema.metadata, b"study": json.dumps(older)}), path)
    assert make_tables.make("made", 1e9, said.append, tmp_path) == 0
    assert len(said) == 8
    curves = Curves.read(path)
    assert is_complete(path)
    assert not curves.by_epoch
    assert curves.spec == spec
    about = {key.decode(): value.decode() for key, value in pq.read_schema(path).metadata.items()}
    assert (about["parts"], about["of"], json.loads(about["study"])) == ("8", "8", spec.resolved())
    laboratory = make_tables.Laboratory.of(spec)
    for params in [*chained(spec)][:6]:
        trial = {**params, SPARSITY_PATH: 1 - 0.5**made.TOP}
        chain = curves.chain(trial)
        points = run(laboratory, trial, tmp_path)
        assert len(chain) == len(points) == made.TOP + 1
        for number, point in enumerate(points):
            end = chain[number][-1]
            assert end.robust == pytest.approx(point.robust_accuracy)
            assert end.clean == pytest.approx(point.clean_accuracy)
            assert end.sparsity == pytest.approx(point.sparsity)


@pytest.mark.slow
def test_a_table_of_another_study_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = made.study()
    monkeypatch.setattr(make_tables, "study", lambda name: spec)
    about = make_tables.described(make_tables.Laboratory.of(spec.model_copy(update={"seed": 1})), 1.0, 0, 8)
    pq.write_table(make_tables.schema(spec).empty_table().replace_schema_metadata(about), tmp_path / "made.parquet")
    with pytest.raises(SystemExit, match="another study"):
        make_tables.make("made", 1.0, lambda line: None, tmp_path)


def run(laboratory: make_tables.Laboratory, params: dict[str, object], folder: Path) -> list[Point]:
    """Run a real trial; the stages are shared between calls."""
    trial = Run(
        trial=laboratory.spec.trial(params),
        data=laboratory.data,
        stages=Stages(Storage(str(folder / "stages"))),
        number=0,
        study="made",
        device=torch.device("cpu"),
    )
    return [progress.point for progress in trial.progress() if progress.point]


TABLES = sorted(make_tables.TABLES.glob("*.yaml"))


@pytest.mark.parametrize("name", [path.stem for path in TABLES])
def test_the_studies_of_the_tables_have_enough_configurations(name: str) -> None:
    chains = [*chained(make_tables.study(name))]
    assert len(chains) >= (960 if name.endswith("wide") else 500)
    assert sorted(map(str, chains)) == sorted(
        str(params) for part in make_tables.parts(make_tables.study(name)) for params in part
    )


@pytest.mark.parametrize("path", sorted(make_tables.TABLES.glob("*.parquet")), ids=lambda path: path.stem)
def test_a_table_is_of_the_current_study_and_its_chains_are_whole(path: Path) -> None:
    spec, curves = make_tables.study(path.stem), Curves.read(path)
    assert (curves.spec.space, curves.spec.recipe) == (spec.space, spec.recipe)
    every = (curves.dense_epochs, curves.round_epochs) if curves.by_epoch else (1, 1)
    lengths = [every[0]] + [every[1]] * len(curves.rungs)
    parts = make_tables.parts(spec)
    about = {key.decode(): value.decode() for key, value in pq.read_schema(path).metadata.items()}
    done = int(about["parts"])
    assert int(about["of"]) == len(parts)
    assert is_complete(path) == (done == len(parts))
    for params in (params for part in parts[:done] for params in part):
        chain = curves.chain(params)
        assert [len(chain[number]) for number in range(len(lengths))] == lengths
