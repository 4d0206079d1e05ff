"""The search: studies, spaces, samplers, records, fronts, exports, and the command line.

`search.launch(...)` runs a study, `search.plan(...)` checks one, and `search.Study` reads one that was launched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.launch.api import launch, plan
    from search.results.study import Study

__all__ = ["Study", "launch", "plan"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: `search` itself, and with it the command line, stays light.
    if name == "launch":
        return importlib.import_module("search.launch")  # The package can be called.
    if name == "plan":
        return importlib.import_module("search.launch.api").plan
    if name == "Study":
        return importlib.import_module("search.results.study").Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
