from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from search.cli import fronts
from search.results.exporters.output import OutputError
from search.results.plot import Axis, axes_of, draw, plot
from search.results.status import status
from search.results.study import Study
from tests.search import factories


def make(directory: Path, trials: int = 12, **changes: Any) -> Study:
    return Study(factories.make_study(directory / "study", trials, factories.study_spec(**changes)))


def labels(figure: Figure) -> set[str]:
    return set(figure.axes[0].get_legend_handles_labels()[1])


def texts(figure: Figure) -> str:
    axes = figure.axes[0]
    return "\n".join([axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)])


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_suffix_decides_the_format(tmp_path: Path, suffix: str, magic: bytes) -> None:
    target = tmp_path / f"front.{suffix.upper()}"
    assert plot(make(tmp_path), target) == target
    assert target.read_bytes().startswith(magic)
    assert sorted(path.name for path in tmp_path.iterdir()) == [target.name, "study"]


@pytest.mark.parametrize("name", ["front", "front.jpeg", "front.png.exe"])
def test_other_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"\.png, \.pdf, \.svg"):
        plot(make(tmp_path, 0), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_records_are_not_drawn_over(tmp_path: Path) -> None:
    study = make(tmp_path, 0)
    with pytest.raises(OutputError, match="records"):
        plot(study, tmp_path / "study" / "trials" / "front.png")


def test_front_is_drawn_with_its_intervals_and_the_rest_apart(tmp_path: Path) -> None:
    study = make(tmp_path, constraints={"clean_accuracy": ">= 0.96"})
    figure = draw(study)
    axes = figure.axes[0]
    assert labels(figure) == {"front, 95 % interval", "its clean accuracy", "dominated", "infeasible", "invalid"}
    front = study.front()
    x, y = Axis("sparsity"), Axis("robust_accuracy")
    (bars,) = axes.containers
    assert list(bars.lines[0].get_xdata()) == [x.at(row) for row in front]
    assert list(bars.lines[0].get_ydata()) == [y.at(row) for row in front]
    segments = sorted(tuple(point[1] for point in path) for path in bars.lines[2][0].get_segments())
    expected = sorted((100 * row.robust_accuracy_low, 100 * row.robust_accuracy_high) for row in front)
    assert [pytest.approx(pair) for pair in expected] == segments
    scattered = {collection.get_label(): len(collection.get_offsets()) for collection in axes.collections}
    invalid = [row for row in study.points() if row.status == "invalid"]
    infeasible = [row for row in study.points() if not row.feasible and row.status != "invalid"]
    assert scattered["invalid"] == len(invalid) == 1
    assert scattered["infeasible"] == len(infeasible) > 0
    assert scattered["dominated"] == len(study.points()) - len(front) - len(invalid) - len(infeasible)


def test_a_warned_point_of_the_front_is_ringed_and_its_flags_named(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "study", 0)
    records.issue(factories.trial(0, records.spec))
    found = [factories.point(0, flags=("zero_gradient",)), factories.point(1, sparsity=0.9, robust_accuracy=0.4)]
    records.write_outcome(factories.outcome(0, found))
    axes = draw(Study.open(str(tmp_path / "study"))).axes[0]
    rings = {collection.get_label(): len(collection.get_offsets()) for collection in axes.collections}
    assert rings["warned: zero_gradient"] == 1


def test_title_and_subtitle_say_what_was_measured(tmp_path: Path) -> None:
    shown = texts(draw(make(tmp_path)))
    for said in (
        "synthetic: robust accuracy against sparsity",
        "lenet300 on digits",
        "PGD-20, ℓ∞, ε = 0.1",
        "360 validation",
    ):
        assert said in shown


def test_sparsity_axis_reads_in_percent_of_what_is_gone(tmp_path: Path) -> None:
    axis = draw(make(tmp_path)).axes[0].xaxis
    ticks = {text.get_text(): place for text, place in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)}
    assert list(ticks)[:4] == ["0", "50", "80", "90"]
    assert ticks["90"] == pytest.approx(1.0)
    low, high = axis.get_view_interval()
    assert all(low <= place <= high for place in ticks.values())


def test_empty_studies_say_so(tmp_path: Path) -> None:
    assert "no point measured so far" in texts(draw(make(tmp_path / "a", 0)))
    figure = draw(make(tmp_path / "b", 4, constraints={"clean_accuracy": ">= 0.9999"}))
    assert "no feasible point so far" in texts(figure)
    assert labels(figure) == {"infeasible"}


def test_labels_stay_within_the_axes(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "study", 0)
    for number, (sparsity, robust) in enumerate(((0.0, 0.80), (0.01, 0.799), (0.02, 0.798), (0.97, 0.3))):
        records.issue(factories.trial(number))
        measured = factories.point(0, sparsity=sparsity, robust_accuracy=robust)
        records.write_outcome(factories.outcome(number, [measured]))
    figure = draw(Study(records))
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    window = figure.axes[0].get_window_extent()
    written = [text for text in figure.axes[0].texts[1:] if text.get_text().startswith("t")]
    assert {text.get_text() for text in written} >= {"t3.0"}
    for text in written:
        box = text.get_window_extent(renderer)
        assert window.x0 < box.x0, text.get_text()
        assert box.x1 < window.x1, text.get_text()


def test_points_without_all_of_their_seeds_are_neither_dominated_nor_infeasible(tmp_path: Path) -> None:
    seeds = {"seeds": [0, 1, 2]}
    figure = draw(Study(factories.make_study(tmp_path / "a", 2, factories.study_spec(**seeds), troubled=False)))
    assert labels(figure) == {"seeds missing"}
    assert "no point with all of its seeds so far" in texts(figure)
    figure = draw(Study(factories.make_study(tmp_path / "b", 8, factories.study_spec(**seeds), troubled=False)))
    assert "seeds missing" in labels(figure)
    study = Study(factories.make_study(tmp_path / "c", 9, factories.study_spec(**seeds), troubled=False))
    assert "seeds missing" not in labels(draw(study))


def test_a_point_of_replicates_lies_at_their_mean(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "study", 0, factories.study_spec(seeds=[0, 1]))
    for number, (sparsity, robust) in enumerate(((0.5, 0.7), (0.7, 0.6))):
        records.issue(factories.trial(number, records.spec, configuration=0, seed=number))
        measured = factories.point(0, sparsity=sparsity, robust_accuracy=robust)
        records.write_outcome(factories.outcome(number, [measured]))
    (row,) = Study(records).front()
    assert Axis("sparsity").at(row) == pytest.approx(-math.log10(0.4))
    assert Axis("robust_accuracy").at(row) == pytest.approx(65)
    assert fronts.measured(row)[:3] == ("t0.0", "60.0", "65.0 ± 7.1 (2)")
    best = status(Study(records)).plain()["best"]["sparsest"]
    assert best["sparsity"] == pytest.approx(0.6)
    assert best["robust_accuracy"] == pytest.approx(0.7, abs=0.01)
    assert best["robust_accuracy_mean"] == pytest.approx(0.65, abs=0.01)
    assert best["seeds"] == 2


def test_labels_do_not_overlap(tmp_path: Path) -> None:
    figure = draw(make(tmp_path, 40))
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts[1:]]
    assert len(boxes) >= 4
    window = figure.axes[0].get_window_extent()
    assert all(window.x0 < box.x0 and box.x1 < window.x1 for box in boxes)
    assert not [1 for i, box in enumerate(boxes) for other in boxes[:i] if box.overlaps(other)]


@pytest.mark.parametrize(
    ("objectives", "axes"),
    [
        (["robust_accuracy", "sparsity"], ("sparsity", "robust_accuracy")),
        (["clean_accuracy", "sparsity", "robust_accuracy"], ("sparsity", "robust_accuracy")),
        (["robust_accuracy", "nonzero"], ("nonzero", "robust_accuracy")),
        (["clean_accuracy", "macs_effective"], ("macs_effective", "clean_accuracy")),
        (["robust_accuracy"], ("sparsity", "robust_accuracy")),
        (["sparsity"], ("robust_accuracy", "sparsity")),
    ],
)
def test_axes_follow_the_objectives(tmp_path: Path, objectives: list[str], axes: tuple[str, str]) -> None:
    assert axes_of(objectives) == axes
    directions = {name: "minimise" if name in ("nonzero", "macs_effective") else "maximise" for name in objectives}
    study = make(tmp_path, 6, objectives=directions)
    assert plot(study, tmp_path / "x.svg").stat().st_size > 1000


def test_text_from_records_is_drawn_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As an attack of a plug-in that calls itself so.
    monkeypatch.setattr("search.store.consistency.Expected.outcome_fault", lambda *records: None)
    records = factories.make_study(tmp_path / "study", 0)
    records.issue(factories.trial(0))
    hostile = r"$\frac{1}$ {x} \n" + "\n\x00漢🙂" + "z" * 500
    records.write_outcome(factories.outcome(0, [factories.point(attack=hostile, split=hostile)]))
    assert plot(Study(records), tmp_path / "x.png").stat().st_size > 1000


def test_a_network_without_weights_has_a_position_on_the_axis() -> None:
    from search.results.table import point_rows

    point = factories.point(sparsity=1.0)
    (row,) = point_rows(factories.study_spec(), [(factories.trial(0), factories.outcome(0, [point]))])
    assert 4 < Axis("sparsity").at(row) < 6


def test_no_global_state_is_touched(tmp_path: Path) -> None:
    import sys

    import matplotlib

    before = dict(matplotlib.rcParams)
    plot(make(tmp_path, 4), tmp_path / "x.png")
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_line_shows_what_is_attained_at_each_sparsity(tmp_path: Path) -> None:
    measures = ("robust_accuracy", "sparsity", "clean_accuracy")
    study = make(tmp_path, 24, objectives=dict.fromkeys(measures, "maximise"))
    line = next(line for line in draw(study).axes[0].lines if line.get_drawstyle() == "steps-pre")
    x, y = Axis("sparsity"), Axis("robust_accuracy")
    front = study.front()
    assert len(line.get_xdata()) < len(front), "the third objective brings points that these two alone beat"
    for across, up in zip(line.get_xdata(), line.get_ydata(), strict=True):
        assert up == max(y.at(row) for row in front if x.at(row) >= across)
