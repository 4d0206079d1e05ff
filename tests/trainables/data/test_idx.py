"""Headers that do not fit what follows."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from trainables.core.errors import DataError
from trainables.data.cache import fingerprint
from trainables.data.idx import Idx


def header(*sizes: int) -> bytes:
    return bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes)


PIXELS = np.random.default_rng(0).integers(0, 256, 36 * 16, dtype=np.uint8).tobytes()
LABELS = bytes(number % 3 for number in range(36))


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (header(2**31, 4, 4) + PIXELS, header(2**31) + LABELS, "images-idx3-ubyte.* more than the file can hold"),
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1), header(2**32 - 1), "more than the file can hold"),
        (header(36, 4, 4) + PIXELS + bytes(50_000_000), header(36) + LABELS, "577 bytes or more follow"),
        (header(36, 4, 4) + PIXELS, header(35) + LABELS[:35], "has 36 images, but train-labels.* has 35 labels"),
        (header(0, 4, 4), header(0), "0 images"),
        (b"PK\3\4" + PIXELS, header(36) + LABELS, "not an idx file"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_lying_headers_are_refused_and_cost_no_memory(
    images: bytes, labels: bytes, words: str, packed: bool, tmp_path: Path
) -> None:
    for name, content in (("images-idx3", images), ("labels-idx1", labels)):
        path = tmp_path / f"train-{name}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content, 1) if packed else content)
    del images
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=words):
            fingerprint(Idx(root=str(tmp_path)))
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_an_archive_that_is_no_gzip_is_refused(tmp_path: Path) -> None:
    for name in ("images-idx3", "labels-idx1"):
        (tmp_path / f"train-{name}-ubyte.gz").write_bytes(b"PK\3\4" + LABELS)
    with pytest.raises(DataError, match="is damaged: Not a gzipped file"):
        Idx(root=str(tmp_path)).read_training()
