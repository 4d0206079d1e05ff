"""The tables hold what real trials measure."""

from __future__ import annotations

import json
from pathlib import Path

import make_tables
import pyarrow.parquet as pq
import pytest
import torch
from curves import DENSE, REWIND, SPARSITY, Curves

from tests.benchmarks import made
from trainables.store.records import Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.run import Run


@pytest.mark.slow
def test_a_chain_ends_every_round_where_a_trial_does(tmp_path: Path) -> None:
    laboratory = make_tables.Laboratory.of(made.study())
    params = {**dict(zip(DENSE, (0.1, "mix", 1e-4, 0.0), strict=True))}
    table = make_tables.part(laboratory, params)
    about = make_tables.described(laboratory.spec, laboratory, 1.0)
    pq.write_table(table.replace_schema_metadata(about), tmp_path / "table.parquet")
    curves = Curves.read(tmp_path / "table.parquet")
    assert curves.spec == laboratory.spec
    assert json.loads(about["cheap"]) == {"steps": 5, "examples": 100}
    for rewind in laboratory.spec.space[REWIND].extremes().values():
        trial = {**params, REWIND: rewind, SPARSITY: 1 - 0.5**made.TOP}
        measured = run(laboratory, trial, tmp_path)
        chain = curves.chain(trial)
        assert [len(chain[number]) for number in sorted(chain)] == [made.DENSE_EPOCHS] + [made.ROUND_EPOCHS] * made.TOP
        for number, point in enumerate(measured):
            end = chain[number][-1]
            assert end.robust == pytest.approx(point.robust_accuracy)
            assert end.clean == pytest.approx(point.clean_accuracy)
            assert end.sparsity == pytest.approx(point.sparsity)
            assert end.status == point.status


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


def test_the_studies_of_the_tables_have_enough_configurations() -> None:
    for name in ("digits", "fashion"):
        spec = make_tables.study(name)
        ways = len(spec.space[REWIND].extremes())
        assert len(make_tables.dense_choices(spec)) * ways >= 500


@pytest.mark.parametrize("path", sorted(make_tables.TABLES.glob("*.parquet")), ids=lambda path: path.stem)
def test_a_table_is_complete_and_of_the_current_study(path: Path) -> None:
    spec, curves = make_tables.study(path.stem), Curves.read(path)
    assert (curves.spec.space, curves.spec.recipe) == (spec.space, spec.recipe)
    lengths = [curves.dense_epochs] + [curves.round_epochs] * len(curves.rungs)
    for params in make_tables.dense_choices(spec):
        for rewind in spec.space[REWIND].extremes().values():
            chain = curves.chain({**params, REWIND: rewind})
            assert [len(chain[number]) for number in range(len(lengths))] == lengths
