"""Strict YAML 1.2: plain data with the position of every key and value, and nothing that runs, refers or repeats.

Refused, with file, line and column: duplicate keys, tags, anchors and aliases, merge keys, several
documents, deep nesting, big files, more values than any study has, numbers beyond 64 bits, texts that cannot be
stored. `1e-4` is a number, `no` is a text, `8/255` is a text.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.core.errors import SpecError

if TYPE_CHECKING:
    from ruamel.yaml.events import Event

MAX_BYTES = 1_000_000
MAX_LINE = 200_000
MAX_DEPTH = 32
MAX_VALUES = 10_000
"""How many keys and values a document may have: reading and checking them takes a second."""
MAX_KEY = 256
_MAX_DIGITS = 400

_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(f"{sign}inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}

Path_ = tuple[str | int, ...]
"""Keys and list indices from the top of a document."""


@dataclass
class Document:
    """Plain data with where it came from.

    `positions` maps the path of every value to its line and column, counted from 1 (those of the key
    where it has one), or to a text for values that did not come from the file.
    """

    name: str
    data: Any
    positions: dict[Path_, tuple[int, int] | str] = field(default_factory=dict)

    def where(self, path: Path_) -> str:
        """Return `file:line:column` of the value at `path`, or of the nearest one around it."""
        for length in range(len(path), -1, -1):
            position = self.positions.get(path[:length])
            if isinstance(position, str):
                return position
            if position is not None:
                return f"{self.name}:{position[0]}:{position[1]}"
        return self.name

    def get(self, path: Path_) -> Any:
        """Return the value at `path`, None where it is missing."""
        value = self.data
        for part in path:
            value = step(value, part)
        return None if value is ABSENT else value


ABSENT: Any = object()
"""What `step` returns for a missing value; None is a value."""


def step(data: Any, part: str | int) -> Any:
    """Return a mapping's value or a list's item, or `ABSENT`."""
    if isinstance(data, Mapping):
        return data.get(part, ABSENT)
    if isinstance(data, (list, tuple)) and isinstance(part, int) and part < len(data):
        return data[part]
    return ABSENT


def scalar(text: str) -> Any:
    """Return what a plain scalar stands for in YAML 1.2's core schema.

    Raises:
        ValueError: the number has too many digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if not (_INT.fullmatch(text) or _BASED.fullmatch(text) or _FLOAT.fullmatch(text)):
        return text
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} characters")
    if _INT.fullmatch(text):
        return int(text)
    return int(text, 0) if _BASED.fullmatch(text) else float(text)


def storable(value: Any) -> Any:
    """Return a scalar; surrogate pairs, as JSON escapes them, become the character that they stand for.

    Raises:
        ValueError: a number beyond 64 bits; a text with half of a surrogate pair.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError("a whole number beyond 64 bits")
    if isinstance(value, str) and _SURROGATE.search(value):
        try:
            return value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise ValueError("a text with half of a surrogate pair, which no file can hold") from None
    return value


def load(path: str | Path) -> Document:
    """Read a YAML file.

    Raises:
        SpecError: the file cannot be read, or is not what this module accepts.
    """
    return parse(decode(_content(path), str(path)), str(path))


def _content(path: str | Path) -> bytes:
    """Return the first bytes of a regular file, one more than a document may have."""
    try:
        # A pipe that nobody writes to would keep us waiting.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SpecError(f"{path}: a pipe or a device; name a regular file")
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def decode(content: bytes, name: str) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        SpecError: the text is UTF-16 or UTF-32, no text at all, or too long.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SpecError(f"{name}:1: the file is encoded in UTF-16 or UTF-32; save it as UTF-8")
    if len(content) > MAX_BYTES:
        line = content.count(b"\n", 0, MAX_BYTES) + 1
        limit = f"more than {MAX_BYTES // 1000} kB"
        raise SpecError(f"{name}:{line}: {limit} end in this line; a study or cluster file is far smaller")
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise SpecError(f"{name}:{line}: the file contains NUL bytes, so it is not text in UTF-8; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{name}:{line}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def parse(text: str, name: str) -> Document:
    """Read a YAML text that calls itself `name` in errors.

    Raises:
        SpecError: the text is not what this module accepts.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    for number, length in enumerate(map(len, text.split("\n")), start=1):
        if length > MAX_LINE:
            raise SpecError(f"{name}:{number}: a line of {length} characters; {MAX_LINE} are allowed")
    builder = _Builder(Document(name, None))
    line, column = 1, 1
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            line, column = _position(event)
            builder.take(event)
    except MarkedYAMLError as error:
        raise _syntax_error(error, text, name) from None
    except ReaderError as error:
        line, column = _line_column(text, error.position)
        raise SpecError(f"{name}:{line}:{column}: not valid YAML: the control character {error.character!r}") from None
    except YAMLError as error:
        raise SpecError(f"{name}:1: not valid YAML: {str(error).splitlines()[0]}") from None
    except (ValueError, OverflowError):  # Numbers in directives and escapes, which ruamel does not check.
        what = "after this, an escape or a directive has an impossible number"
        raise SpecError(f"{name}:{line}:{column}: not valid YAML: {what}") from None
    return builder.document


def _line_column(text: str, index: int) -> tuple[int, int]:
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def parse_value(text: str, name: str) -> Any:
    """Read a YAML value from the command line: a scalar, or a list or mapping in braces.

    Raises:
        SpecError: the text is not what this module accepts.
    """
    return parse(text, name).data


def _syntax_error(error: Any, text: str, name: str) -> SpecError:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return SpecError(f"{name}:1: {error.problem or error.context}")
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "'\\t'" in (error.problem or ""):
        problem = "a tab; YAML indents and separates with spaces"
    elif re.search(r"[:=,{\[]\s*>=?\s*[0-9.]", line):
        problem = "a bound needs quotes, such as '>= 0.75'"
    else:
        problem = "; ".join(part for part in (error.problem, error.context) if part)
    shown = f" in {line.strip()[:60]!r}" if line.strip() else ""
    return SpecError(f"{name}:{mark.line + 1}:{mark.column + 1}: {problem}{shown}")


@dataclass
class _Container:
    """A mapping or list under construction."""

    value: Any
    path: Path_
    key: str | None = None


class _Builder:
    """Turns events into plain data without recursion, and refuses what is not plain.

    ruamel's composer gives equal data and positions, but needs the same refusals: it is no shorter, and recursive.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self._open: list[_Container] = []
        self._documents = 0

    def take(self, event: Any) -> None:
        """Consume one event."""
        from ruamel.yaml import events

        fail = partial(self._fail, event)
        if len(self.document.positions) > MAX_VALUES:
            raise fail(f"more than {MAX_VALUES} keys and values; a study or cluster file has far fewer")
        if isinstance(event, events.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise fail("a second document starts here; one file holds one")
            if event.version not in (None, (1, 2)):
                raise fail("files are read as YAML 1.2; remove the %YAML line")
        elif isinstance(event, events.AliasEvent) or getattr(event, "anchor", None):
            raise fail("anchors and aliases (& and *) are not accepted; write the value out")
        elif getattr(event, "ctag", None):
            raise fail(f"tags such as {str(event.tag)[:60]!r} are not accepted; values are plain data")
        elif isinstance(event, events.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, (events.MappingStartEvent, events.SequenceStartEvent)):
            if len(self._open) >= MAX_DEPTH:
                raise fail(f"nested deeper than {MAX_DEPTH} levels")
            value: Any = {} if isinstance(event, events.MappingStartEvent) else []
            self._open.append(_Container(value, self._add(event, value)))
        elif isinstance(event, (events.MappingEndEvent, events.SequenceEndEvent)):
            self._open.pop()

    def _scalar(self, event: Any) -> None:
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            self._key(event, parent)
            return
        try:
            value = storable(scalar(event.value) if event.implicit[0] else event.value)
        except ValueError as error:
            raise self._fail(event, str(error)) from None
        self._add(event, value)

    def _key(self, event: Any, parent: _Container) -> None:
        key: str = event.value
        if len(key) > MAX_KEY:
            raise self._fail(event, f"a key of {len(key)} characters; {MAX_KEY} are allowed")
        try:
            key = storable(key)
        except ValueError as error:
            raise self._fail(event, f"a key that is {error}") from None
        if key == "<<" and event.implicit[0]:
            raise self._fail(event, "merge keys (<<) are not accepted; write the keys out")
        if key in parent.value:
            first = self.document.positions[(*parent.path, key)]
            raise self._fail(event, f"duplicate key {key!r}; it stands in line {first[0]} already")
        parent.key = key
        self.document.positions[(*parent.path, key)] = _position(event)

    def _add(self, event: Event, value: Any) -> Path_:
        """Add a value to the open container and return its path."""
        if not self._open:
            self.document.data = value
            self.document.positions[()] = _position(event)
            return ()
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
            path: Path_ = (*parent.path, len(parent.value) - 1)
            self.document.positions[path] = _position(event)
            return path
        if parent.key is None:
            raise self._fail(event, "a key must be a plain text, not a list or a mapping")
        path = (*parent.path, parent.key)
        parent.value[parent.key] = value
        parent.key = None
        return path

    def _fail(self, event: Any, message: str) -> SpecError:
        line, column = _position(event)
        return SpecError(f"{self.document.name}:{line}:{column}: {message}")


def _position(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def dump_yaml(data: Any) -> str:
    """Write plain data as YAML that `parse` reads back equal.

    Raises:
        ValueError: the data holds something that is not plain.
    """
    from io import StringIO

    from ruamel.yaml import YAML

    yaml = YAML(typ="rt", pure=True)
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.ignore_aliases = lambda data: True
    stream = StringIO()
    yaml.dump(_quoted(data), stream)
    return stream.getvalue().removesuffix("...\n")


def _quoted(data: Any) -> Any:
    """Copy plain data, marking the texts that would be read as something else without quotes."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(data, Mapping):
        return CommentedMap((_quoted(str(key)), _quoted(value)) for key, value in data.items())
    if isinstance(data, (list, tuple)):
        items = CommentedSeq(_quoted(item) for item in data)
        if not any(isinstance(item, (Mapping, list, tuple)) for item in data):
            items.fa.set_flow_style()
        return items
    if isinstance(data, str):
        plain = data.isprintable() and data.isascii() and data == data.strip() and len(data) < _MAX_DIGITS
        return data if plain and isinstance(scalar(data), str) else DoubleQuotedScalarString(data)
    if data is None or isinstance(data, (bool, int)):
        return data
    if isinstance(data, float):
        return float(data)
    raise ValueError(f"{data!r} is not plain data")


def leaves(data: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield path and value of the scalars and empty containers in plain data."""
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from leaves(value, (*path, key))
    elif isinstance(data, list) and data:
        for index, value in enumerate(data):
            yield from leaves(value, (*path, index))
    else:
        yield path, data
