"""What `robustsearch doctor` reports: one thing that was checked, and whether it is in order."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One check. `fail` prevents a launch, `warn` may prevent some."""

    level: Level
    subject: str
    message: str

    def plain(self) -> dict[str, Any]:
        """Return the finding as JSON-able data."""
        return asdict(self)
