"""JSON: a list of rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, Literal

from search.results.exporters.base import Exporter

if TYPE_CHECKING:
    import pyarrow as pa


class Json(Exporter):
    """A JSON list with one object per row; an unknown value is null."""

    kind: Literal["json"] = "json"
    suffix: ClassVar[str] = ".json"

    def render(self, table: pa.Table, *, what: str, study: str) -> bytes:
        return (json.dumps(table.to_pylist(), indent=1, allow_nan=False) + "\n").encode()
