"""Encoded images (PNG, JPEG, ...) to one array of bytes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import IO, TYPE_CHECKING

from trainables.core import heartbeat
from trainables.core.errors import DataError
from trainables.data.content import Notes

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

_GREY = ("1", "L", "LA", "La")
_DEEP = ("I", "F")
"""How the names of modes with more than 8 bits a channel begin."""


def decode(
    sources: Iterable[tuple[str, IO[bytes]]],
    count: int,
    *,
    channels: int | None = None,
    size: int | None = None,
    notes: Notes | None = None,
) -> np.ndarray:
    """Decode `count` images of one size to (N, C, H, W) uint8, as torchvision's loader does.

    `sources` pairs a name for messages with an open file. `channels` 1 converts all images to grey and 3 to RGB, None
    to what the first image is. `size` resizes every image to a square of this many pixels a side. `notes` counts images
    of which one frame of several, or 8 bits of more, are read.

    Raises:
        DataError: an image is damaged, of another size or of more colours than the first.
    """
    import numpy as np
    from PIL import Image

    guessed = channels is None
    images: np.ndarray | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of Pillow: about palettes, metadata, and large images that are still read.
        for row, (name, file) in enumerate(sources):
            heartbeat.beat()
            image, grey = _decoded(file, name, channels, Notes() if notes is None else notes)
            if channels is None:
                channels = 1 if grey else 3
            elif guessed and channels == 1 and not grey:
                raise DataError(f"{name} has colours, but the first image is grey; set `channels` to 1 or 3")
            if size is not None and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            if images is None:
                images = _room(count, channels, image)
            if (image.height, image.width) != images.shape[2:]:
                height, width = images.shape[2:]
                raise DataError(
                    f"{name} is {image.width}x{image.height}, but the first image is {width}x{height}; "
                    "set `size` to resize all to one size"
                )
            pixels = np.asarray(image)
            images[row] = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    if images is None:
        raise DataError("there are no images")
    return images


def _decoded(file: IO[bytes], name: str, channels: int | None, notes: Notes) -> tuple[Image.Image, bool]:
    """Return the first frame of an image, as grey or RGB by `channels`, and whether it is stored as grey."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=_formats()) as encoded:
            if encoded.mode.startswith(_DEEP):
                raise DataError(
                    f"{name}: its mode is {encoded.mode}, more than 8 bits a channel, which is not supported; "
                    "convert the images to 8 bits"
                )
            grey = encoded.mode in _GREY
            narrowed = _narrowed(encoded)  # Known until the image is converted.
            image = encoded.convert("L" if channels == 1 or (channels is None and grey) else "RGB")
            frames = 1
            with suppress(Exception):  # A damaged later frame.
                frames = getattr(encoded, "n_frames", 1)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{name} is not a readable image: its content is of no known format") from None
    # What a damaged image raises depends on the byte that is wrong.
    except Exception as error:
        raise DataError(f"{name} is not a readable image: {str(error) or type(error).__name__}") from error
    if narrowed:
        notes.add("image", "with more than 8 bits a channel, of which the upper 8 are read", name)
    if frames > 1:
        notes.add("image", "with several frames or pages, of which the first is read", name)
    return image, grey


def _narrowed(encoded: Image.Image) -> bool:
    """Return whether Pillow reads more than 8 bits a channel in a mode of 8, by the arguments of its decoders."""
    for codec, _, _, found in getattr(encoded, "tile", ()):
        arguments = found if isinstance(found, tuple) else (found,)
        if str(*arguments[:1]).endswith((";16B", ";16L", ";16N")):
            return True
        if codec in ("ppm", "ppm_plain") and arguments[-1] > 255:  # The largest value.
            return True
    return False


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Return the formats that Pillow reads by itself: for EPS it starts another program."""
    from PIL import Image

    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def _room(count: int, channels: int, first: Image.Image) -> np.ndarray:
    import numpy as np

    shape = (count, channels, first.height, first.width)
    try:
        return np.empty(shape, np.uint8)
    except MemoryError:
        need = np.prod(shape, dtype=float) / 1024**3
        message = f"{count} images of {first.width}x{first.height} take {need:.0f} GiB, more than the memory"
        raise DataError(f"{message}; set `size` to make them smaller") from None
