"""Parquet, with the explicit schema of `search.results.table`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, ClassVar, Literal

from search.results.exporters.base import Exporter

if TYPE_CHECKING:
    import pyarrow as pa


class Parquet(Exporter):
    """Apache Parquet; reading it back gives the schema and the values exactly."""

    kind: Literal["parquet"] = "parquet"
    suffix: ClassVar[str] = ".parquet"
    text: ClassVar[bool] = False

    def render(self, table: pa.Table, *, what: str, study: str) -> bytes:
        from pyarrow import parquet

        content = io.BytesIO()
        parquet.write_table(table, content)
        return content.getvalue()
