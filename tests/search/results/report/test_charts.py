"""The charts: plotly takes every one, texts are not markup, axes of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.results import report
from search.results.report import results_charts, search_charts
from search.results.report.charts import UNSET, ParameterAxis, shown
from search.results.report.gather import Gathered, gather
from search.results.study import Study
from search.space.parameters import Categorical, FloatRange, IntRange, Parameter
from search.testing.exporters import HOSTILE
from tests.search.confirmations import make_confirmed_study
from trainables.store.confirmations import ALL


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Gathered:
    return gather(make_confirmed_study(tmp_path_factory.mktemp("charts") / "study", 30))


def charts(found: Gathered) -> list[Any]:
    several = [*results_charts.fronts(found), *(each for _, each in results_charts.hypervolume(found))]
    slices = [each for _, each in search_charts.slices(found)]
    single = [results_charts.confirmed, results_charts.security]
    more = [search_charts.importance, search_charts.parallel, search_charts.compute]
    return [*several, *slices, *(draw(found) for draw in (*single, *more))]


@pytest.mark.slow
def test_plotly_knows_every_property_of_every_chart(found: Gathered) -> None:
    from plotly.graph_objects import Figure

    drawn = charts(found)
    assert len(drawn) == 12
    for each in drawn:
        assert len(Figure(each).data) == len(each["data"])


def test_the_front_has_every_point_once_as_one_kind(found: Gathered) -> None:
    (front,) = results_charts.fronts(found)
    kinds = {trace["name"]: trace["customdata"] for trace in front["data"] if "customdata" in trace}
    clean = kinds.pop("its clean accuracy")
    assert sorted(clean) == sorted(kinds["front, 95 % interval"]) == sorted(row.point for row in found.front)
    assert sorted(point for points in kinds.values() for point in points) == sorted(row.point for row in found.points)


def test_a_point_whose_attacks_are_not_all_there_is_in_no_chart_of_confirmed_ones(tmp_path: Path) -> None:
    study = make_confirmed_study(tmp_path / "study", 12)
    first, *others = study.confirmed()
    (tmp_path / "study" / "confirm" / first.weights_sha256 / ALL / "square.json").unlink()
    study = Study.open(str(tmp_path / "study"))
    drawn = results_charts.confirmed(gather(study))
    assert drawn is not None
    points = [trace["customdata"] for trace in drawn["data"] if "customdata" in trace]
    assert points == [[row.point for row in others]] * 2
    text = report.render(study)
    assert "Attacks are missing for 1 of the points" in text


def test_shares_of_the_compute_add_up_to_all_of_it(found: Gathered) -> None:
    drawn = search_charts.compute(found)
    assert drawn is not None
    for bar in (0, 1):
        assert sum(trace["x"][bar] for trace in drawn["data"]) == pytest.approx(100, abs=0.05)
    assert {trace["name"].split(":")[0] for trace in drawn["data"]} == {"complete trials", "stopped early", "failed"}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_one_line_without_markup(text: str) -> None:
    assert not set(shown(text)) & set("<>\n\r\x00\u202e")


AXES: list[tuple[Parameter, list[Any], list[Any], tuple[str, str]]] = [
    (FloatRange(low=0.0, high=2.0), [0.0, 0.5, UNSET], [0, 0.25, None], ("0", "2")),
    (FloatRange(low=0.5, high=1.0), [0.0, 1.0], [0, 1], ("0", "1")),
    (FloatRange(low=1e-4, high=1.0, log=True), [1e-4, 1e-2], [0, 0.5], ("0.0001", "1")),
    (IntRange(low=1, high=1), [1], [0.5], ("1", "1")),
    (Categorical(choices=("b", "a", None)), ["a", None, "c"], [1 / 3, 2 / 3, 1], ("b", "c")),
    (Categorical(choices=(True, False)), [True, False], [0, 1], ("true", "false")),
    (Categorical(choices=("8/255", 0.1)), [0.1], [1], ("8/255", "0.1")),
]


@pytest.mark.parametrize(("parameter", "values", "shares", "ends"), AXES)
def test_a_parameter_has_an_axis(
    parameter: Parameter, values: list[Any], shares: list[float | None], ends: tuple[str, str]
) -> None:
    axis = ParameterAxis("recipe.x", parameter, values)
    assert [axis.share(value) for value in values] == pytest.approx(shares)
    assert axis.ends() == ends
    assert axis.name == "x"
