"""`trainables.export.saved` under the name it had before."""

from __future__ import annotations

from trainables.export.saved import *  # noqa: F403
