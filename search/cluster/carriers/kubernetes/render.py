"""Write manifests as YAML that kubectl reads as meant: by YAML 1.1, as it does, `yes` and `12:30` are not texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(:[A-Za-z0-9_./-]+)*")
_OTHERS = re.compile("y|yes|n|no|true|false|on|off|null", re.IGNORECASE)
"""What YAML 1.1 reads as something else than a text, of what `_BARE` matches."""


def dump(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Return manifests as one file."""
    from io import StringIO

    from ruamel.yaml import YAML

    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.ignore_aliases = lambda data: True
    stream = StringIO()
    yaml.dump_all([_marked(manifest) for manifest in manifests], stream)
    return stream.getvalue()


def _marked(data: Any) -> Any:
    """Copy plain data, marking how its texts are written: several lines as they are, what may be misread in quotes."""
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

    if isinstance(data, Mapping):
        return CommentedMap((_marked(key), _marked(value)) for key, value in data.items())
    if isinstance(data, (list, tuple)):
        return [_marked(item) for item in data]
    if not isinstance(data, str) or (_BARE.fullmatch(data) and not _OTHERS.fullmatch(data)):
        return data
    lines = data.split("\n")
    block = len(lines) > 1 and not lines[-1] and lines[0] and not lines[0].startswith(" ")
    if block and lines[-2] and all(line.isascii() and (line.isprintable() or not line) for line in lines):
        return LiteralScalarString(data)
    return DoubleQuotedScalarString(data)
