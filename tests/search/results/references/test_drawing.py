"""Published rows in the plot."""

from __future__ import annotations

from pathlib import Path

from search.results.plot import Axis, draw
from search.results.references import reference
from search.results.references.match import match
from search.results.study import Study
from tests.search import confirmations
from tests.search.factories import make_study, study_spec


def test_rows_are_drawn_where_they_are_with_estimates_hollow_and_confirmed_points_filled(tmp_path: Path) -> None:
    field = {"data": {"kind": "cifar10", "validation": 360}, "model": "resnet18", "protocol": {"eps": "8/255"}}
    confirmations.confirm(make_study(tmp_path / "field", 6, study_spec(**field), troubled=False))
    study = Study.open(str(tmp_path / "field"))
    found = match(reference("piras2024"), study)
    figure = draw(study, found)
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    published = lines["piras2024 (test, AutoAttack)"]
    sparsity = Axis("sparsity")
    wanted = {(round(sparsity.at(row), 6), round(100 * row.robust_accuracy, 4)) for row in found.rows}
    drawn = zip(published.get_xdata(), published.get_ydata(), strict=True)
    assert {(round(x, 6), round(y, 4)) for x, y in drawn} == wanted
    labels = [bars.get_label() for bars in figure.axes[0].containers]
    assert labels == ["front, estimates, 95 % interval", "confirmed (test)"]
    hollow, filled = (bars.lines[0].get_markerfacecolor() for bars in figure.axes[0].containers)
    assert hollow == "white" != filled
    assert "HARP" in [text.get_text() for text in figure.axes[0].texts]
    assert "only confirmed points compare" in figure.legends[0].get_title().get_text()


def test_without_rows_the_figure_is_the_one_without_a_reference(tmp_path: Path) -> None:
    make_study(tmp_path / "digits", 6, troubled=False)
    study = Study.open(str(tmp_path / "digits"))
    plain, asked = draw(study), draw(study, match(reference("piras2024"), study))
    assert plain.canvas.print_to_buffer()[0] == asked.canvas.print_to_buffer()[0]  # type: ignore[attr-defined]
