"""The table of a paper beside what a study measured: every table is filled from a made-up study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from search.results import exporters
from search.results.paper_table import caption, claims_table, filled, paper_table, points
from search.results.study import Study
from search.store.records import Records
from search.study import reproduction
from search.study.spec import Reproduces, StudySpec
from tests.search.factories import FINGERPRINT, make_study, outcome, point, trial
from trainables.core.errors import SpecError
from trainables.core.spec import plain
from trainables.method.phases import Inherit, Measure, Prune, Train
from trainables.recipes.trial import keyed_phases
from trainables.store.storage import Storage

TABLES = [(paper, table) for paper in reproduction.names() for table in reproduction.paper(paper).tables]


class Made:
    """A study of a table without any training, whose numbers `robust` gives by seed, parameters and sparsity."""

    def __init__(self, folder: Path, of: Reproduces, seeds: int | None = 2, **changes: Any) -> None:
        self.spec = reproduction.study(of, seeds).model_copy(update=changes)
        self.records = Records.create(Storage(str(folder)), self.spec, FINGERPRINT)
        self.robust = lambda seed, params, sparsity: 0.5 + 0.01 * seed

    def study(self, leave_out: int = 0) -> Study:
        number = 0
        configurations = list(self.spec.sampler.every(self.spec.space))  # type: ignore[attr-defined]
        for at, params in enumerate(configurations):
            for seed in self.spec.seeds:
                described = self.spec.trial(params, seed)
                chain = keyed_phases(described, FINGERPRINT.data_hash)
                keys = tuple(step.key for step in chain)
                issued = trial(number, self.spec, configuration=at, seed=seed, params=params)
                issued = issued.model_copy(update={"spec": plain(described), "keys": keys})
                self.records.issue(issued)
                if number < len(configurations) * len(self.spec.seeds) - leave_out:
                    self.records.write_outcome(outcome(number, self._measured(self.spec, chain, params, seed)))
                number += 1
        return Study(Records.open(self.records.storage))

    def _measured(self, spec: StudySpec, chain: Any, params: dict[str, Any], seed: int) -> list[Any]:
        found, sparsity = [], 0.0
        for step in chain:
            if isinstance(step.phase, (Prune, Train)):
                within = step.phase if isinstance(step.phase, Prune) else step.phase.rewiring
                sparsity = getattr(within, "sparsity", sparsity)
            elif isinstance(step.phase, Inherit):
                sparsity = 0.0
            elif isinstance(step.phase, Measure):
                robust = self.robust(seed, params, sparsity)
                names = [c.value for c in reproduction.table(spec.reproduces).columns]  # type: ignore[arg-type]
                metrics = {name.removeprefix("metric."): robust for name in names if name.startswith("metric.")}
                labels = {"attack": spec.protocol.attack.label, "eps": float(spec.protocol.eps)}
                labels |= {"eps_text": spec.protocol.eps.text, "key": step.key, "stage": step.parent}
                labels |= {"examples": spec.protocol.examples or 10_000}
                numbers = {"robust_accuracy": robust, "clean_accuracy": 0.95, "sparsity": sparsity}
                found.append(point(len(found), epoch=step.phase.epoch, metrics=metrics, **numbers, **labels))
        return found


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_every_cell_of_every_table_is_filled_by_its_own_networks(paper: str, table: str, tmp_path: Path) -> None:
    made = Made(tmp_path, Reproduces(paper=paper, table=table))
    cells = filled(made.study())
    apart = [cell for cell in cells if "test split" in cell.column]
    assert all(len(cell.values) == 2 for cell in cells if cell not in apart)
    assert all(not cell.values for cell in apart), "these wait for `confirm`"
    assert all(cell.seeds == (0, 1) for cell in cells if cell.values)


MNIST = Reproduces(paper="cosentino2019", table="mnist")
ATTACKED = "PGD: adversarial training, attacked"


def inverted_u(seed: int, params: dict[str, Any], sparsity: float) -> float:
    """As the paper has it for PGD, with half a point between seeds; nothing without adversarial training."""
    if params["recipe.train.loss.kind"] == "natural":
        return 0.02 + 0.005 * seed
    levels = {0.0: 0.45, 0.488: 0.60, 0.832: 0.60, 0.914: 0.58, 0.965: 0.49, 0.982: 0.38}
    near = min(levels, key=lambda level: abs(level - sparsity))
    return levels[near] + 0.005 * seed


def test_numbers_stand_beside_the_papers_with_means_and_intervals_over_seeds(tmp_path: Path) -> None:
    made = Made(tmp_path, MNIST, seeds=3)
    made.robust = inverted_u
    study = made.study()
    rows = {(row["row"], row["column"]): row for row in paper_table(study).to_pylist()}
    assert len(rows) == 48
    dense = rows["100.0 %", ATTACKED]
    assert (dense["paper"], dense["paper_sd"]) == pytest.approx((0.4532, 0.002))
    assert dense["mean"] == pytest.approx(0.455)
    assert dense["sd"] == pytest.approx(0.005)
    assert dense["low"] < 0.455 - 0.005 * 4.303 / 3**0.5 < dense["mean"] < dense["high"], "Student's, and the images'"
    assert (dense["seeds"], dense["accuracy"], len(dense["points"])) == (3, True, 3)
    assert set(dense["points"]) <= set(points(study))
    assert study.points()[0].epoch == 30
    within = {row.point: row.epoch for row in study.points()}
    assert {within[name] for row in rows.values() for name in row["points"]} == {30}, "the paper's table is of epoch 30"


def test_claims_have_the_verdict_of_what_was_measured(tmp_path: Path) -> None:
    made = Made(tmp_path / "true", MNIST, seeds=3)
    made.robust = inverted_u
    verdicts = [row["verdict"] for row in claims_table(made.study()).to_pylist()]
    assert verdicts[0] == "holds"
    assert verdicts[2] == "holds", "naturally trained networks are at 2 %"
    flat = Made(tmp_path / "flat", MNIST, seeds=3)
    flat.robust = lambda seed, params, sparsity: 0.45 + 0.005 * seed - 0.05 * sparsity
    assert claims_table(flat.study()).to_pylist()[0]["verdict"] == "does not"
    one = Made(tmp_path / "one", MNIST, seeds=1)
    one.robust = inverted_u
    assert claims_table(one.study()).to_pylist()[0]["verdict"] == "cannot tell"


def test_the_caption_says_what_was_shortened_changed_and_left_out(tmp_path: Path) -> None:
    of = Reproduces(paper="cosentino2019", table="mnist", scale=0.05)
    whole = Made(tmp_path / "whole", MNIST).study()
    assert "SHORTENED" not in caption(whole)
    assert "INCOMPLETE" not in caption(whole)
    data = whole.spec.data.model_copy(update={"limit": 20000})
    told = caption(Made(tmp_path / "short", of, data=data).study(leave_out=2))
    assert "SHORTENED: all that counts epochs or steps is 0.05 times as long; the first training has 3 of 60" in told
    assert "Set otherwise: data.limit is 20000 instead of null." in told
    assert "INCOMPLETE: 2 of 6 trials are not complete" in told
    assert "2 seeds of 5" in told
    assert "1 seed of 5" in caption(Made(tmp_path / "first", of).study(leave_out=5)), "those that are measured"


def test_the_caption_names_what_is_set_otherwise_within_lists_too(tmp_path: Path) -> None:
    of = Reproduces(paper="rakin2019", table="resnet20")
    spec = reproduction.study(of)
    (noise,) = spec.protocol.metrics
    fewer = noise.model_copy(update={"examples": 32, "attacks": {"fgsm": noise.attacks["fgsm"]}})
    protocol = spec.protocol.model_copy(update={"metrics": (fewer,)})
    (line,) = [text for text in caption(Made(tmp_path, of, protocol=protocol).study()).splitlines() if "Set" in text]
    assert line == (
        "Set otherwise: protocol.metrics.noise.attacks.square is left out; "
        "protocol.metrics.noise.examples is 32 instead of 1000."
    )


def test_the_table_is_read_in_the_papers_shape(tmp_path: Path) -> None:
    made = Made(tmp_path, MNIST, seeds=3)
    made.robust = inverted_u
    lines = exporters.text(made.study(), "paper", "markdown").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == ["", "", "100.0 %", "51.3 %", "16.9 %", "8.7 %", "3.6 %", "1.8 %"]
    (at,) = [number for number, row in enumerate(rows) if row[0] == ATTACKED]
    assert rows[at][:4] == [ATTACKED, "paper", "45.3 ± 0.2", "60.1 ± 1.0"]
    assert rows[at + 1][:4] == ["", "ours", "45.5 ± 0.5", "60.5 ± 0.5"]
    assert rows[at + 2][:2] == ["", "95 %"]
    assert rows[at + 2][2].startswith("[4")
    assert len({len(line) for line in lines if line.startswith("|")}) == 1, "a terminal shows columns"
    assert "&amp;" not in lines[0]


def test_of_a_claim_about_many_cells_the_least_and_the_most_are_written(tmp_path: Path) -> None:
    made = Made(tmp_path, MNIST, seeds=3)
    made.robust = inverted_u
    first, _, third, last = claims_table(made.study()).to_pylist()
    assert first["paper"] == "1.8 %: -7.1; 51.3 %: +14.8; 16.9 %: +14.6; 8.7 %: +12.3"
    assert re.sub(r" \[.*?\]", "", first["ours"]) == "1.8 %: -7.0; 51.3 %: +15.0; 16.9 %: +15.0; 8.7 %: +13.0"
    assert third["paper"] == (
        "from 0.7 (16.9 %, PGD: natural training, attacked) to 11.5 (16.9 %, FGSM: natural training, attacked)"
    )
    assert last["paper"] == "3.6 %: -2.8; 1.8 %: -5.7"


def test_a_shortened_study_is_measured_where_its_trainings_allow_it(tmp_path: Path) -> None:
    short = Made(tmp_path / "short", Reproduces(paper="cosentino2019", table="mnist", scale=0.05)).study()
    within = {row.point: row.epoch for row in short.points()}
    assert {within[name] for cell in filled(short) for name in cell.points} == {2}
    single = Made(tmp_path / "single", Reproduces(paper="cosentino2019", table="mnist", scale=0.01)).study()
    assert {row.epoch for row in single.points()} == {None}
    assert all(cell.values for cell in filled(single)), "the end stands for the middle of a single epoch"


@pytest.mark.parametrize("format_", ["markdown", "latex", "csv", "json", "html"])
@pytest.mark.parametrize("what", ["paper", "claims"])
def test_tables_of_papers_are_exported_as_all_others(tmp_path: Path, what: Any, format_: str) -> None:
    made = Made(tmp_path, MNIST)
    made.robust = inverted_u
    text = exporters.text(made.study(), what, format_)
    assert ("60.14" in text or "60.1" in text or "0.6014" in text) if what == "paper" else "cannot tell" in text
    if format_ in ("markdown", "latex", "html"):
        assert "Cosentino" in text


def test_other_studies_fill_no_table(tmp_path: Path) -> None:
    records = make_study(tmp_path)
    with pytest.raises(SpecError, match="fills no table of a paper"):
        paper_table(Study(records))
