"""Several searches side by side: hypervolumes, attainment, and which one attains more at which sparsity."""

from __future__ import annotations

from search.results.compare.comparison import Comparison, GroupResult, Pair, RunResult, compare
from search.results.compare.groups import Group, groups_of
from search.results.compare.ranges import Range

__all__ = ["Comparison", "Group", "GroupResult", "Pair", "Range", "RunResult", "compare", "groups_of"]
