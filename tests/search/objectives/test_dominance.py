from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from search.objectives import pareto
from search.objectives.dominance import covers, dominates

PAIRS = st.integers(1, 4).flatmap(
    lambda width: st.tuples(*[st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=width, max_size=width)] * 2)
)


@given(PAIRS)
def test_of_two_points_one_dominates_where_the_other_is_not_on_the_front(pair: tuple[list[float], list[float]]) -> None:
    one, other = pair
    assert dominates(one, other) == (not pareto.nondominated([one, other])[1])
    assert covers(one, other) == (dominates(one, other) or one == other)
    assert dominates(tuple(one), other) == dominates(one, other)
