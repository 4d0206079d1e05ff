"""`trainables.method.phases` under the name it had before."""

from __future__ import annotations

from trainables.method.phases import *  # noqa: F403
