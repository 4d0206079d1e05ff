"""The archive that a Ray job finds in its current folder: study, inner cluster file, and code that is sent along."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from search.cluster.base import ClusterError

MOST_BYTES = 100 * 1024**2
"""Code is smaller. Ray takes five times as much, and keeps it in the memory of the head."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every member: equal contents give equal archives."""


def package(files: Mapping[str, str], code: Sequence[str]) -> tuple[str, bytes]:
    """Pack texts by their names, and modules and packages by theirs; return the archive and its name, a hash of it.

    Raises:
        ClusterError: a file of the code cannot be read, or it is too much for code.
    """
    held, size = io.BytesIO(), 0
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (*((name, text.encode()) for name, text in sorted(files.items())), *_code(code)):
            if (size := size + len(content)) > MOST_BYTES:
                raise ClusterError(
                    f"the code that is sent with the job has more than {MOST_BYTES // 1024**2} MB ({', '.join(code)}); "
                    "keep data out of the folders of plug-ins, or install them on the cluster"
                )
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    content = held.getvalue()
    return f"_ray_pkg_{hashlib.sha256(content).hexdigest()[:32]}.zip", content


def _code(paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of modules and packages, but for what is hidden and what Python compiles."""
    for path in map(Path, sorted(paths)):
        files = [path] if path.is_file() else _files(path)
        for file in files:
            try:
                yield file.relative_to(path.parent).as_posix(), file.read_bytes()
            except OSError as error:
                raise ClusterError(f"{file} cannot be sent with the job: {error}") from error


def _files(folder: Path) -> Iterator[Path]:
    for around, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        yield from (Path(around, name) for name in sorted(names) if not name.startswith("."))
