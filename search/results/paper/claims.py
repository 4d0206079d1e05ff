"""The claims of a paper about the cells of its table, with verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from search.results.exporters.base import CAPTION
from search.results.paper.base import Study, reproduces
from search.results.paper.caption import title, warnings
from search.results.paper.cells import Filled, filled
from search.results.verdicts import Arm, Bound, Difference, Every, Judgement, Mean, Some, Statement, Untested
from search.study import reproduction
from search.study.reproduction import Cell, Claim, Comparison

_CLAIMS = pa.schema(
    [
        pa.field("claim", pa.string(), nullable=False),
        pa.field("paper", pa.string(), nullable=False),
        pa.field("ours", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
    ]
)
_READING = (
    "Differences of accuracies are in points, intervals of 95 %. A verdict is wrong in at most 2.5 % of cases on either"
    " side; where one of several levels is enough, it is corrected for their number."
)


def claims_table(study: Study) -> pa.Table:
    """Return the paper's claims with their verdicts as an Arrow table, whose metadata hold its caption.

    Raises:
        SpecError: as `filled`.
    """
    cells = {(cell.row, cell.column): cell for cell in filled(study)}
    rows = [_judged(claim, cells) for claim in reproduction.table(reproduces(study.spec)).claims]
    told = "\n".join([f"Claims about {title(study.spec)}", *warnings(study), _READING])
    return pa.Table.from_pylist(rows, schema=_CLAIMS.with_metadata({CAPTION: told}))


def _judged(claim: Claim, cells: Mapping[Cell, Filled]) -> dict[str, Any]:
    statements = [_statement(each, cells) for each in claim.every]
    if claim.some:
        statements.append(Some(tuple(_statement(each, cells) for each in claim.some)))
    judgement: Judgement = Every(tuple(statements)).judged()
    parts = (*claim.every, *claim.some)
    return {
        "claim": claim.text,
        "paper": _listed(parts, [_published(each, cells) for each in parts], "not known"),
        "ours": _listed(parts, [_found(each, cells) for each in parts], "not measured"),
        "verdict": judgement.verdict,
        "why": judgement.why,
    }


def _statement(each: Comparison, cells: Mapping[Cell, Filled]) -> Statement:
    quantity = _quantity(each, cells)
    if quantity is None:
        return Untested()
    unit = 100 if cells[each.of].percent and not each.relative else 1
    bounds = {name: getattr(each, name) for name in ("at_least", "more_than", "at_most", "less_than")}
    bound = Bound(quantity, **{name: bound / unit for name, bound in bounds.items() if bound is not None})
    return Every((bound, *(_statement(part, cells) for part in each.also))) if each.also else bound


def _quantity(each: Comparison, cells: Mapping[Cell, Filled]) -> Mean | Difference | None:
    """Return what a comparison is about, over the seeds that all its cells have; None where nothing was measured."""
    ours, theirs = cells[each.of], cells[each.than] if each.than else None
    if ours.arm is None or (theirs is not None and theirs.arm is None):
        return None
    if theirs is None or theirs.arm is None:
        return Mean(ours.arm)
    common = [seed for seed in ours.seeds if seed in theirs.seeds]
    return Difference(_of(ours, common), _of(theirs, common), each.relative) if common else None


def _of(cell: Filled, seeds: Sequence[int]) -> Arm:
    arm = cell.arm
    assert arm is not None
    chosen = [cell.seeds.index(seed) for seed in seeds]
    outcomes = None if arm.outcomes is None else np.asarray(arm.outcomes)[chosen]
    return Arm(arm.values[chosen], arm.examples, outcomes, arm.chance, arm.collapsed)


_Number = tuple[float, str]
"""A number, and how it is written."""
_MANY = 4
"""Of more parts of a claim, only the least and the most are written."""


def _listed(parts: Sequence[Comparison], numbers: Sequence[_Number | None], missing: str) -> str:
    """Write the numbers of a claim's parts, each with what tells its cell from the others'."""
    unlike = [at for at in (0, 1) if len({each.of[at] for each in parts}) > 1]
    labels = [", ".join(each.of[at] for at in unlike) for each in parts]
    there = [(*number, label) for number, label in zip(numbers, labels, strict=True) if number is not None]
    if not there:
        return missing
    if len(parts) > _MANY:
        (_, least, lower), (_, most, upper) = min(there), max(there)
        some = "" if len(there) == len(parts) else f", of {len(there)} of {len(parts)}"
        return f"from {least} ({lower}) to {most} ({upper}){some}"
    texts = [missing if number is None else number[1] for number in numbers]
    return "; ".join(f"{label}: {text}" if label else text for label, text in zip(labels, texts, strict=True))


def _published(each: Comparison, cells: Mapping[Cell, Filled]) -> _Number | None:
    ours, theirs = cells[each.of], cells[each.than] if each.than else None
    if ours.paper is None or (theirs is not None and theirs.paper is None):
        return None
    if theirs is None or theirs.paper is None:
        return ours.paper, f"{100 * ours.paper:.1f}" if ours.percent else f"{ours.paper:.3g}"
    if each.relative:
        found = ours.paper / theirs.paper - 1
        return found, f"{100 * found:+.1f} %"
    found = ours.paper - theirs.paper
    return found, f"{100 * found:+.1f}" if ours.percent else f"{found:+.3g}"


def _found(each: Comparison, cells: Mapping[Cell, Filled]) -> _Number | None:
    if (quantity := _quantity(each, cells)) is None:
        return None
    found = quantity.interval()
    # That there is one seed is said by the verdict.
    text = (found.text(100) if cells[each.of].percent or each.relative else found.text(1, 3)).removesuffix(
        " (one seed)"
    )
    sign = "+" if each.than and text[0].isdigit() else ""
    also = [f"{part.of[1]} {other[1]}" for part in each.also if (other := _found(part, cells))]
    cost = f" ({', '.join(also)})" if also else ""
    return found.mean, f"{sign}{text}{' %' if each.relative else ''}{cost}"
