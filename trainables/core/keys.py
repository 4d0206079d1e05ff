"""Keys: one hash per phase, over its own inputs and the key of the phase before it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from trainables.core.spec import Spec, plain

SCHEMA = 1
"""Version of the hashed form; with another one no stored stage is found again."""


def canonical_json(value: Any) -> str:
    """Write plain data as JSON with sorted keys and no spaces; NaN and infinities are refused.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any) -> str:
    """Return the sha256 hex digest of the canonical JSON of plain data."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def key(spec: Spec, parent: str | None, **inputs: Any) -> str:
    """Return the key of the result of `spec` applied to the stage with the key `parent`.

    Fields that equal their defaults are omitted, so a new field with a no-op default changes no
    key. `inputs` are further values the result depends on: specs, or plain data (the data's fingerprint).
    """
    content = {"spec": spec, **inputs}
    content = {name: plain(value, defaults=False, hashed=True) for name, value in content.items()}
    content["parent"] = parent
    return hashlib.sha256(f"schema={SCHEMA}\n{canonical_json(content)}".encode()).hexdigest()
