"""HTML: the columns a person reads, as one page whose table sorts and copies, and which fetches nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from search.results.exporters.base import Exporter, readable
from search.results.exporters.csv import Csv
from search.results.exporters.latex import Latex
from search.results.exporters.markdown import Markdown

if TYPE_CHECKING:
    import pyarrow as pa


class Html(Exporter):
    """A table as an HTML page; `robustsearch report` writes all of a study, with charts."""

    kind: Literal["html"] = "html"
    suffix: ClassVar[str] = ".html"
    for_reading: ClassVar[bool] = True

    def render(self, table: pa.Table, *, what: str, study: str) -> bytes:
        from search.results.report.page import page
        from search.results.report.tables import copied, table_of

        formats: dict[str, Exporter] = {"csv": Csv(), "markdown": Markdown(), "latex": Latex()}

        def text(kind: str) -> str:
            return formats[kind].render(table, what=what, study=study).decode()

        copies = copied(what, text, table.num_rows)
        shown = table_of(what, readable(table, what=what, study=study), copies, points=False)
        values = {"name": study, "kind": what, "of": shown}
        return page("table.html.j2", values, {"copies": copies}, charts=False).encode()
