"""The tables of papers: each has a study that can be launched, at its published length and shortened."""

from __future__ import annotations

from typing import Any

import pytest

from search.study import reproduction
from search.study.lengths import LENGTHS, scaled, shortened
from search.study.spec import Reproduces, StudySpec
from tests.search.factories import study_spec
from trainables.core.errors import SpecError
from trainables.core.spec import Spec
from trainables.method.phases import EpochPhase, Measure

TABLES = [(paper, table) for paper in reproduction.names() for table in reproduction.paper(paper).tables]


def configurations(spec: StudySpec) -> list[dict[str, Any]]:
    return list(spec.sampler.every(spec.space))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_every_table_has_a_study_whose_trials_fill_every_cell(paper: str, table: str) -> None:
    of = Reproduces(paper=paper, table=table)
    spec, described = reproduction.study(of), reproduction.table(of)
    assert spec.sampler.kind == "grid"
    assert spec.planned == len(configurations(spec)) * len(spec.seeds) > 0
    assert spec.recipe.train.precision == "fp32", "papers train in fp32"
    for row in described.rows:
        for column in described.columns:
            wanted = reproduction.conditions(of, row, column, spec.measure_at)
            params = {path: value for path, value in wanted.items() if "." in path}
            fitting = [each for each in configurations(spec) if params.items() <= each.items()]
            assert fitting, f"no trial has what {row.name}, {column.name} shows"
            assert wanted["epoch"] is None or wanted["epoch"] in spec.measure_at
            measured = [step for step in spec.trial(fitting[0]).phases() if isinstance(step, Measure)]
            assert wanted.get("measure", 0) < len(measured)


@pytest.mark.parametrize(("paper", "table"), TABLES)
@pytest.mark.parametrize("scale", [0.05, 0.01])
def test_a_shortened_study_trains_that_share_of_every_phase(paper: str, table: str, scale: float) -> None:
    whole, short = (reproduction.study(Reproduces(paper=paper, table=table, scale=each)) for each in (1.0, scale))
    assert short.name == f"{paper}-{table}-scale-{scale:g}"
    for params in configurations(whole)[:3]:
        phases = [
            [p for p in each.trial(params).recipe.phases() if isinstance(p, EpochPhase)] for each in (whole, short)
        ]
        assert len(phases[0]) == len(phases[1])
        for long, cut in zip(*phases, strict=True):
            # Each length is at least 1, and the large network of inverse inheritance may train for the sum of three.
            assert max(1, long.length * scale) - 1 <= cut.length <= max(3, long.length * scale + 2)
            assert cut.length >= 1


def test_what_counts_steps_is_shortened_alike_and_all_else_stays() -> None:
    train = {
        **{"eps_warmup": 10, "natural_epochs": 5, "ema": 0.99, "validate_on": 10, "validate_every": 500},
        **{"schedule": {"kind": "cosine", "warmup": 5}, "attack": {"kind": "pgd", "steps": 7}},
    }
    spec = study_spec(
        recipe={"kind": "imp", "epochs": 60, "round_epochs": 40, "train": train},
        space={
            "recipe.rewind": {"kind": "categorical", "choices": ["init", 20]},
            "recipe.epochs": {"kind": "int", "low": 30, "high": 60},
        },
        measure_at=[30, 59],
    )
    found = shortened(spec.resolved(), 0.1)
    recipe, train = found["recipe"], found["recipe"]["train"]
    assert (recipe["epochs"], recipe["round_epochs"], recipe["rate"]) == (6, 4, 0.2)
    assert (train["eps_warmup"], train["natural_epochs"], train["validate_every"]) == (1.0, 1, 50)
    assert train["schedule"]["warmup"] == 0.5
    assert train["ema"] == pytest.approx(0.9)
    assert train["attack"]["steps"] == 7
    assert found["space"]["recipe.rewind"]["choices"] == ["init", 2]
    assert (found["space"]["recipe.epochs"]["low"], found["space"]["recipe.epochs"]["high"]) == (3, 6)
    assert found["measure_at"] == [3], "what would come at the end is measured anyway"
    harp = study_spec(recipe={"kind": "harp", "gamma": 0.01, "train": {"schedule": {"kind": "step", "gamma": 0.5}}})
    penalised = shortened(harp.resolved(), 0.1)["recipe"]
    assert (penalised["gamma"], penalised["penalty_steps"]) == (0.01, 7820), "the recipe scales its penalty"
    assert penalised["train"]["schedule"]["gamma"] == 0.5, "the factor of a fall stays"
    assert (scaled(0, 0.1), scaled(3, 0.01), scaled("init", 0.1), scaled(True, 0.1)) == (0, 1, "init", True)


COUNTED_OTHERWISE = {
    "batch": "images",
    "bias": "of an attack",
    "examples": "images",
    "gamma": "a weight, which its recipe scales",
    "penalty_steps": "those that weights of penalties are meant for",
    "s2ap_warmup": "a share of the search",
    "slowing": "no length",
    "splice": "no length",
    "least": "of early stopping",
    "levels": "of early stopping",
    "mask_steps": "of each batch",
    "method": "no length",
    "overshoot": "of an attack",
    "rate": "no length",
    "reach": "of an attack",
    "restarts": "no length",
    "retrain": "rounds",
    "round": "trials",
    "select": "images",
    "share": "of an attack",
    "silence": "time",
    "step_size": "of an attack",
    "step_sizes": "of an attack",
    "steps": "of an attack",
    "stop": "of an attack",
    "tiers": "of an attack",
    "values": "of a grid",
    "warm_start": "studies",
    "worth": "of early stopping",
    "attack": "no length",
    "deterministic": "no length",
    "rounds": "prunings",
    "scale": "the factor itself",
    "step": "of a grid",
    "where": "of a table of a paper",
    "snapshots": "made from `rewind`",
    "start": "of a phase",
    "until": "of a phase",
    "to": "of a phase",
    "epoch": "of a phase",
    "ema": "a decay per step, which is changed as such",
    "guard": "an attack",
}
"""Fields that speak of epochs, steps or rounds and are no length of a training."""


def specs(of: type[Spec] = Spec) -> set[type[Spec]]:
    return {of}.union(*(specs(kind) for kind in of.__subclasses__()))


def test_no_length_of_a_training_is_forgotten() -> None:
    speaking = {
        name
        for kind in specs()
        if kind.__module__.startswith(("search.", "trainables."))
        for name, field in kind.model_fields.items()
        if any(word in f"{name} {field.description or ''}".lower() for word in ("epoch", "step", "warm", "round"))
    }
    assert speaking - LENGTHS - COUNTED_OTHERWISE.keys() == set()
    assert not LENGTHS & COUNTED_OTHERWISE.keys()


def test_unknown_papers_and_tables_are_refused_with_what_there_is() -> None:
    with pytest.raises(SpecError, match="no tables of 'cosentino'; did you mean 'cosentino2019'"):
        reproduction.paper("cosentino")
    with pytest.raises(SpecError, match="cosentino2019 has no table 'mnits'; did you mean 'mnist'"):
        reproduction.study(Reproduces(paper="cosentino2019", table="mnits"))


def test_the_first_tables_numbers_are_the_papers() -> None:
    table = reproduction.table(Reproduces(paper="cosentino2019", table="mnist"))
    (at,) = (at for at, column in enumerate(table.columns) if column.name == "PGD: adversarial training, attacked")
    robust = [row.paper[at] for row in table.rows]
    assert robust == [(45.32, 0.2), (60.14, 0.99), (59.91, 0.81), (57.6, 0.25), (48.81, 0.98), (38.23, 2.33)]
    assert sum(number is not None for row in table.rows for number in row.paper) == 48


def test_seeds_and_overrides_change_the_study() -> None:
    of = Reproduces(paper="cosentino2019", table="mnist")
    spec = reproduction.study(of, 2, ("data.limit=20000",))
    assert (spec.seeds, spec.data.limit, spec.planned) == ((0, 1), 20000, 6)
