"""`search.results.exporters` under the name it had before."""

from __future__ import annotations

from search.results.exporters import *  # noqa: F403
