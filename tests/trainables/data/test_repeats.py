from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.repeats import across, contradictions, repeats, too_many


@given(st.lists(st.integers(0, 5), min_size=2, max_size=12), st.data())
def test_images_on_both_sides_are_those_that_a_search_finds(values: list[int], data: st.DataObject) -> None:
    images = np.array(values, np.uint8)[:, None, None, None].repeat(3, axis=2)
    found = repeats(images)
    assert found == tuple((row, values.index(value)) for row, value in enumerate(values) if values.index(value) < row)
    order = data.draw(st.permutations(range(len(values))))
    cut = data.draw(st.integers(1, len(values) - 1))
    training, validation = np.array(order[:cut]), np.array(order[cut:])
    both = across(found, training, validation)
    assert [row for row, _ in both] == [row for row in validation if values[row] in {values[t] for t in training}]
    assert all(values[row] == values[other] and other in training for row, other in both)


def test_equal_images_with_other_labels() -> None:
    assert contradictions(((3, 0), (4, 1)), np.array([0, 1, 0, 1, 1])) == ((3, 0),)


@pytest.mark.parametrize(
    ("count", "validation", "refused"), [(1, 5, False), (2, 20, True), (50, 5000, False), (51, 5000, True)]
)
def test_a_handful_is_named_and_more_than_a_percent_refused(count: int, validation: int, refused: bool) -> None:
    assert too_many(count, validation) == refused
