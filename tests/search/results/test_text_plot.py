from __future__ import annotations

import itertools

import pytest

from search.results.text_plot import front_plot
from tests.search.factories import point

OBJECTIVES = ("robust_accuracy", "sparsity")
FRONT = [
    point(0, key="a", robust_correct=306, robust_accuracy=0.85, sparsity=0.0),
    point(1, key="b", robust_correct=216, robust_accuracy=0.6, sparsity=0.9),
    point(2, key="c", robust_correct=36, robust_accuracy=0.1, sparsity=0.99),
]


@pytest.mark.parametrize(("width", "height"), [(39, 8), (79, 12), (90, 20)])
@pytest.mark.parametrize("ascii", [True, False])
def test_a_front_fits_its_place(width: int, height: int, ascii: bool) -> None:
    rows = front_plot(FRONT, OBJECTIVES, width=width, height=height, ascii=ascii)
    assert len(rows) <= height
    assert max(map(len, rows)) <= width
    assert "".join(rows).isascii() == ascii
    marks = [(row, text.index(mark)) for mark in "o●" for row, text in enumerate(rows[1:-2]) if mark in text]
    assert len(marks) == 3, "each point has a mark"
    assert [column for _, column in marks] == sorted(column for _, column in marks), "sparser is to the right"
    gap = [b[1] - a[1] for a, b in itertools.pairwise(marks)]
    assert abs(gap[0] - gap[1]) <= 1, "from 0 to 90 % and from 90 to 99 % is a factor of ten in density each"
    assert rows[-1].split()[0] == "0"
    assert "99" in rows[-1].split()
    assert rows[0].startswith("robust accuracy (%) against sparsity (%)"[:width])


def test_a_point_with_a_flag_is_marked() -> None:
    warned = [FRONT[0], FRONT[1].model_copy(update={"status": "warn", "flags": ("zero_gradient",)}), FRONT[2]]
    rows = front_plot(warned, OBJECTIVES, width=79, height=12)
    assert rows[0].endswith("! has a flag")
    assert [mark for row in rows[1:] for mark in row if mark in "!●"] == ["●", "!", "●"]
    assert "flag" not in front_plot(FRONT, OBJECTIVES, width=79, height=12)[0]


def test_what_has_no_place_or_no_points_is_not_drawn() -> None:
    assert front_plot([], OBJECTIVES, width=80, height=20) == []
    assert front_plot(FRONT, OBJECTIVES, width=20, height=20) == []
    assert front_plot(FRONT, OBJECTIVES, width=80, height=5) == []


@pytest.mark.parametrize(
    "objectives", [("robust_accuracy",), ("robust_accuracy", "clean_accuracy"), ("nonzero", "robust_accuracy")]
)
@pytest.mark.parametrize("points", [FRONT[:1], FRONT])
def test_every_pair_of_objectives_can_be_drawn(objectives: tuple[str, ...], points: list[object]) -> None:
    rows = front_plot(points, objectives, width=60, height=12)  # type: ignore[arg-type]
    assert sum(row.count("●") for row in rows) >= 1
