"""Decoded training images, cached on disk so that a data set is decoded once and not by every worker."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from trainables.core import ownership
from trainables.core.atomic import replace_file
from trainables.core.errors import DataError
from trainables.core.keys import digest
from trainables.core.spec import plain
from trainables.data.base import Data
from trainables.data.classes import Classes, classes, numbers, remarks
from trainables.data.content import Content, listed
from trainables.data.repeats import Repeats, contradictions, repeats

if TYPE_CHECKING:
    import numpy as np

    from trainables.data.base import Arrays

CACHE_VARIABLE = "ROBUSTSEARCH_CACHE"
SCHEMA = 2
"""Version of the cached content; a change of how a layout is decoded increases it."""

_log = logging.getLogger(__name__)


class Fingerprint(NamedTuple):
    """The identity of a data set's training files: a hash over all pixels and labels, and their sizes."""

    sha256: str
    images: int
    classes: int
    shape: tuple[int, int, int]


class Described(NamedTuple):
    """What is known of the training files besides their pixels; `notes` are lines about what is not used."""

    fingerprint: Fingerprint
    classes: Classes
    notes: tuple[str, ...]
    repeats: Repeats


def fingerprint(spec: Data) -> Fingerprint:
    """Identify the content of the training files; the cache saves reading them again.

    Raises:
        DataError: files are missing or damaged.
    """
    return described(spec).fingerprint


def described(spec: Data) -> Described:
    """Describe the content of the training files; the cache saves reading them again.

    Raises:
        DataError: files are missing or damaged.
    """
    return already_described(spec) or training(spec)[1]


def already_described(spec: Data) -> Described | None:
    """Return what the cache knows of the training files as they are now, without decoding them.

    Raises:
        DataError: files are missing.
    """
    entry = _entry(spec)
    return _recorded(entry) if entry else None


def training_arrays(spec: Data) -> tuple[Arrays, Fingerprint]:
    """Return all training images and labels, as a read-only memory map if they are cached, and their fingerprint.

    Raises:
        DataError: files are missing or damaged.
    """
    arrays, found = training(spec)
    return arrays, found.fingerprint


def training(spec: Data) -> tuple[Arrays, Described]:
    """Return what `training_arrays` does, with all that is known of the training files.

    Raises:
        DataError: files are missing or damaged.
    """
    entry = _entry(spec)
    if entry is not None and (recorded := _recorded(entry)) is not None:
        cached = _cached(entry)
        if cached is not None and _identify(spec, cached, len(recorded.classes.values)) == recorded.fingerprint:
            return cached, recorded
    arrays, found = _read(spec)
    if entry is not None:
        _store(entry, arrays, found)
    return arrays, found


def _read(spec: Data) -> tuple[Arrays, Described]:
    read = spec.read_training()
    content = read if isinstance(read, Content) else Content(*read)
    checked(spec, content)
    found = classes(spec, content[1], content.names)
    arrays = numbered(spec, content, found.values)
    repeated = repeats(arrays[0])
    notes = [*content.notes, *remarks(spec, content[1], found)]
    if others := len(content[1]) - len(arrays[1]):
        notes.append(f"{others} of {len(content[1])} images not used: `select` names other classes")
    if differing := contradictions(repeated, arrays[1]):
        rows = listed([f"{row} and {first}" for row, first in differing])
        notes.append(f"{len(differing)} of {len(arrays[1])} images equal one with another label: images {rows}")
    identity = _identify(spec, arrays, len(found.values))
    return arrays, Described(identity, found, tuple(notes), repeated)


def checked(spec: Data, arrays: Arrays) -> Arrays:
    """Return images and labels, checked.

    Raises:
        DataError: types, sizes, labels or pixel values are out of order.
    """
    import numpy as np

    images, labels = arrays
    if images.dtype != np.uint8 or images.ndim != 4 or labels.dtype != np.int64 or labels.ndim != 1:
        what = f"{images.dtype} in {images.ndim} dimensions with labels {labels.dtype} in {labels.ndim}"
        raise DataError(f"{spec.kind}: the images are {what}, not uint8 (N, C, H, W) with int64 (N,)")
    if len(images) != len(labels) or images.size == 0:
        raise DataError(f"{spec.kind}: {images.shape[0]} images of {images.shape[1:]} and {len(labels)} labels")
    if labels.min() < 0 or (spec.classes is not None and labels.max() >= spec.classes):
        allowed = f"0 to {spec.classes - 1}" if spec.classes is not None else "0 or more"
        raise DataError(f"{spec.kind}: labels lie in {labels.min()} to {labels.max()}; they must be {allowed}")
    if images.max() > spec.scale:
        raise DataError(f"{spec.kind}: a pixel has the value {images.max()}, above the scale of {spec.scale}")
    return images, labels


def numbered(spec: Data, arrays: Arrays, values: tuple[int, ...]) -> Arrays:
    """Return the images of the classes that have the labels `values` in the files, and the numbers of their classes.

    Raises:
        DataError: an image is of another class, and classes are not selected.
    """
    import numpy as np

    kept, labels = numbers(spec, arrays[1], values)
    images = arrays[0] if kept.all() else arrays[0][kept]
    return np.ascontiguousarray(images), np.ascontiguousarray(labels)


def directory() -> Path | None:
    """Return the cache folder: `ROBUSTSEARCH_CACHE`, else the user's; None without a home directory."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "robustsearch"
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "robustsearch" if home != "~" else None


def _identify(spec: Data, arrays: Arrays, count: int) -> Fingerprint:
    import hashlib

    images, labels = arrays
    hashed = hashlib.sha256(f"{images.shape}:{spec.scale}\n".encode())
    hashed.update(images.data)
    hashed.update(labels.astype("<i8", copy=False).data)
    _, channels, height, width = images.shape
    return Fingerprint(hashed.hexdigest(), len(images), count, (channels, height, width))


def _entry(spec: Data) -> Path | None:
    """Return the stem of the cache files for the spec's training files as they are now."""
    files = spec.training_files()
    folder = directory()
    if not files or folder is None or _foreign(folder):
        return None
    stats = [(path.absolute(), path.stat()) for path in files]
    reading = {name: value for name, value in plain(spec).items() if name not in Data.model_fields or name == "kind"}
    if spec.select:
        reading["select"] = spec.select
    # Copies may keep the time of modification, but not that of the last change.
    found = [[str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for path, stat in stats]
    content = [SCHEMA, reading, found, spec.unused_files()]
    return folder / f"{spec.kind}-{digest(content)[:32]}"


@functools.cache
def _foreign(folder: Path) -> bool:
    """Return whether other users could have put images into the cache, which is not used then; log a warning."""
    problem = ownership.exposed(folder)
    if problem:
        _log.warning("decoded images are not cached: %s; set %s to a folder of yours", problem, CACHE_VARIABLE)
    return problem is not None


def _recorded(entry: Path) -> Described | None:
    named = (entry.with_suffix(".json"), _named(entry, "images"), _named(entry, "labels"))
    try:
        if any(ownership.exposed(path) for path in named):
            return None
        found = json.loads(entry.with_suffix(".json").read_bytes())
        sha256, images, count, (channels, height, width) = (found[name] for name in Fingerprint._fields)
        shape = (int(channels), int(height), int(width))
        values = tuple(int(value) for value in found["values"])
        names = tuple(str(name) for name in found["names"])
        repeated = tuple((int(row), int(first)) for row, first in found["repeats"])
        sound = len(values) == len(names) == count and all(0 <= first < row < images for row, first in repeated)
        notes = tuple(str(note) for note in found["notes"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    identity = Fingerprint(str(sha256), int(images), int(count), shape)
    return Described(identity, Classes(values, names), notes, repeated) if sound else None


def _cached(entry: Path) -> Arrays | None:
    import numpy as np

    try:
        images, labels = (
            np.load(_named(entry, name), mmap_mode="r", allow_pickle=False) for name in ("images", "labels")
        )
    except (OSError, ValueError, EOFError, SyntaxError):
        return None
    sound = images.dtype == np.uint8 and images.ndim == 4 and labels.dtype == np.int64 and labels.ndim == 1
    return (images, labels) if sound and len(labels) and images.size else None


def _store(entry: Path, arrays: Arrays, found: Described) -> None:
    """Store arrays, then the record that makes them valid; without a writable cache, log a warning."""
    import numpy as np

    def save(array: np.ndarray) -> Callable[[IO[bytes]], Any]:
        return lambda file: np.save(file, array, allow_pickle=False)

    try:
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(_named(entry, "images"), save(arrays[0]))
        replace_file(_named(entry, "labels"), save(arrays[1]))
        identity, numbering = found.fingerprint._asdict(), found.classes._asdict()
        facts = {**identity, **numbering, "notes": found.notes, "repeats": found.repeats}
        replace_file(entry.with_suffix(".json"), json.dumps(facts).encode())
    except OSError as error:
        _log.warning("decoded images are not cached: %s; set %s to a writable folder", error, CACHE_VARIABLE)


def _named(entry: Path, name: str) -> Path:
    return entry.with_name(f"{entry.name}.{name}.npy")
