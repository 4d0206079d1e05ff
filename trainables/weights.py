"""`trainables.reparametrisations` under the name it had before."""

from __future__ import annotations

from trainables.reparametrisations import *  # noqa: F403
