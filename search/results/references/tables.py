"""The rows of a reference as a table beside a study's: the same columns, null where a row does not say."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from search.results.exporters.base import CAPTION, NORMS
from search.results.references.base import Reference, Row
from search.results.references.match import Match

TIER = "reference"


def table(found: Match, like: pa.Table) -> pa.Table:
    """Return the rows with the columns of the table `like`; the caption, with source and remarks, is in the schema."""
    rows = [_cells(found.reference, row) for row in found.rows]
    fields = [field.with_nullable(True) for field in like.schema]
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, {CAPTION: caption(found)}))


def appended(points: pa.Table, found: Match) -> pa.Table:
    """Return a study's points with the rows of a reference behind them; `tier` tells them apart."""
    both = [
        pa.Table.from_arrays(each.columns, schema=_nullable(each.schema)) for each in (points, table(found, points))
    ]
    return pa.concat_tables(both).replace_schema_metadata(points.schema.metadata)


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


def caption(found: Match) -> str:
    """Return where the numbers are from, how they were measured, and what must be said beside them."""
    known = found.reference
    return (
        f"Rows of the {known.title} ({known.citation}; {known.url}): robust accuracy under {known.attack}, "
        f"{NORMS.get(known.norm, known.norm)}, eps = {known.eps_text}, n = {known.examples} examples of the "
        f"{known.split} split; 95 % Wilson confidence intervals in brackets. Note: {'; '.join(found.remarks)}."
    )


def method(row: Row) -> str:
    """Return the name of a row's method, with the structure where whole filters are pruned."""
    return f"{row.method} (filters)" if row.structure == "filter" else row.method


def _cells(known: Reference, row: Row) -> dict[str, Any]:
    names = ("data", "model", "sparsity")
    bounds = [f"{kind}_accuracy{bound}" for kind in ("robust", "clean") for bound in ("", "_low", "_high")]
    return {
        **{name: getattr(row, name) for name in (*names, *bounds)},
        "study": known.name,
        "recipe": method(row),
        "examples": known.examples,
        "attack": known.attack,
        "norm": known.norm,
        "eps": known.eps,
        "eps_text": known.eps_text,
        "split": known.split,
        "tier": TIER,
    }
