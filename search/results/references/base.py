"""What a reference is: rows of published numbers, how they were measured, and where they are from."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trainables.metrics import wilson


@dataclass(frozen=True)
class Row:
    """One published network. Fractions are in [0, 1]; the intervals are 95 % Wilson intervals, computed here."""

    method: str
    data: str
    model: str
    structure: str
    sparsity: float
    clean_accuracy: float
    clean_accuracy_low: float
    clean_accuracy_high: float
    robust_accuracy: float
    robust_accuracy_low: float
    robust_accuracy_high: float

    @property
    def prunable(self) -> float:
        """The number of prunable weights, which sparsity is drawn to the precision of: it is not known."""
        return math.inf


@dataclass(frozen=True)
class Reference:
    """A table of published numbers, all measured in one way.

    `titles` maps kinds of data sets and models to their names there. `table` is a CSV file beside the module, with the
    columns data, model, structure, sparsity_percent, method, clean_percent and robust_percent. `remarks` are what
    stands beside the numbers wherever they are shown.
    """

    name: str
    title: str
    citation: str
    url: str
    titles: Mapping[str, str]
    attack: str
    norm: str
    eps: float
    eps_text: str
    tolerance: float
    split: str
    examples: int
    remarks: tuple[str, ...]
    table: Path

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """All rows, in the order of the file."""
        with self.table.open(encoding="utf-8", newline="") as lines:
            return tuple(self._row(line) for line in csv.DictReader(lines))

    def _row(self, line: dict[str, str]) -> Row:
        clean, robust = (round(float(line[f"{name}_percent"]) / 100, 6) for name in ("clean", "robust"))
        intervals = [wilson(round(value * self.examples), self.examples) for value in (clean, robust)]
        return Row(
            method=line["method"],
            data=line["data"],
            model=line["model"],
            structure=line["structure"],
            sparsity=float(line["sparsity_percent"]) / 100,
            clean_accuracy=clean,
            clean_accuracy_low=intervals[0][0],
            clean_accuracy_high=intervals[0][1],
            robust_accuracy=robust,
            robust_accuracy_low=intervals[1][0],
            robust_accuracy_high=intervals[1][1],
        )
