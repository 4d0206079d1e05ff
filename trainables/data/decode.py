"""Encoded images (PNG, JPEG, ...) to one array of bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

from trainables.core import heartbeat
from trainables.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np

_GREY = ("1", "L")
_COLOUR = ("P", "RGB", "RGBA", "CMYK", "YCbCr")


def decode(
    sources: Iterable[tuple[str, IO[bytes]]], count: int, *, channels: int | None = None, size: int | None = None
) -> np.ndarray:
    """Decode `count` images of one size to (N, C, H, W) uint8.

    `sources` pairs a name for messages with an open file. `channels` 1 converts all images to grey and 3 to RGB, None
    to what the first image is. `size` resizes every image to a square of this many pixels a side.

    Raises:
        DataError: an image is damaged, of another size or of more colours than the first.
    """
    import numpy as np
    from PIL import Image

    guessed = channels is None
    images: np.ndarray | None = None
    for row, (name, file) in enumerate(sources):
        heartbeat.beat()
        try:
            with Image.open(file) as encoded:
                if encoded.mode not in (*_GREY, *_COLOUR):
                    raise DataError(f"{name}: images of mode {encoded.mode} (not 8 bits a channel) are not supported")
                if channels is None:
                    channels = 1 if encoded.mode in _GREY else 3
                elif guessed and channels == 1 and encoded.mode not in _GREY:
                    raise DataError(f"{name} has colours, but the first image is grey; set `channels` to 1 or 3")
                image = encoded.convert("L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{name} is no readable image: {error}") from error
        if size is not None and image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        if images is None:
            images = np.empty((count, channels, image.height, image.width), np.uint8)
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
