"""`trainables.export.shrunk` under the name it had before."""

from __future__ import annotations

from trainables.export.shrunk import *  # noqa: F403
