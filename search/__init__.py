"""The search: studies, spaces, samplers, records, fronts, exports, and the command line.

`from search import Study` reads a study that was launched; see `search.results.study`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.results.study import Study

__all__ = ["Study"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: `search` itself, and with it the command line, stays light.
    if name == "Study":
        from search.results.study import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
