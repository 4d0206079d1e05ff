"""Modes, formats and damage of single images."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import pil_loader

from tests.trainables.data.made import made
from trainables.core.errors import DataError
from trainables.data.content import Notes
from trainables.data.decode import decode

COLOURED = Image.fromarray(made(1, (3, 9, 7), 0)[0][0].transpose(1, 2, 0))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes, **options: Any) -> np.ndarray:
    return decode([("it", io.BytesIO(content))], 1, **options)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *[(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
        *[(mode, "TIFF") for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")],
        *[(mode, "JPEG") for mode in ("L", "RGB", "CMYK", "YCbCr")],
        *[("RGB", "BMP"), ("RGB", "PPM"), ("RGBA", "WEBP"), ("P", "GIF")],
    ],
)
def test_all_modes_of_eight_bits_are_read_as_torchvision_does(mode: str, kind: str, tmp_path: Any) -> None:
    image = COLOURED.convert("P").convert("PA") if mode == "PA" else COLOURED.convert(mode)
    content = encoded(image, kind)
    (tmp_path / "image").write_bytes(content)
    theirs = np.asarray(pil_loader(tmp_path / "image")).transpose(2, 0, 1)
    assert np.array_equal(decoded(content, channels=3)[0], theirs)
    assert decoded(content).shape[1] == (1 if mode in ("1", "L", "LA") else 3)


def test_a_transparent_palette_warns_nobody() -> None:
    content = encoded(COLOURED.convert("P"), "PNG", transparency=bytes(range(256)))
    assert decoded(content).shape == (1, 3, 9, 7)


@pytest.mark.parametrize(("mode", "kind"), [("I;16", "PNG"), ("I", "TIFF"), ("F", "TIFF")])
def test_more_than_eight_bits_are_refused(mode: str, kind: str) -> None:
    image = COLOURED.convert("L").convert("I").convert(mode)
    with pytest.raises(DataError, match=f"it: its mode is {mode}.*convert the images to 8 bits"):
        decoded(encoded(image, kind))


def png16(colour: int, channels: int) -> bytes:
    """Encode 7x9 pixels of 16 bits a channel, which Pillow does not write."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 7, 9, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + bytes(range(14 * channels)) for _ in range(9)))),
        (b"IEND", b""),
    ]
    chunks = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    "content",
    [png16(2, 3), png16(4, 2), png16(6, 4), *(b"P6 7 9 %d\n" % most + bytes(range(3)) * 126 for most in (65535, 1023))],
    ids=["RGB", "LA", "RGBA", "PPM", "PPM of 10 bits"],
)
def test_colours_of_more_than_eight_bits_are_read_as_torchvision_does_and_said(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(content)
    notes = Notes()
    theirs = np.asarray(pil_loader(tmp_path / "image")).transpose(2, 0, 1)
    assert np.array_equal(decoded(content, channels=3, notes=notes)[0], theirs)
    assert notes.lines() == ("1 image with more than 8 bits a channel, of which the upper 8 are read: it",)


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF", "JPEG", "WEBP", "BMP"])
def test_of_eight_bits_nothing_is_said(kind: str) -> None:
    notes = Notes()
    decoded(encoded(COLOURED, kind), notes=notes)
    assert notes.lines() == ()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_the_first_of_several_frames_is_read_and_said(kind: str) -> None:
    other = Image.new("RGB", COLOURED.size)
    options = {"lossless": True} if kind == "WEBP" else {}
    notes = Notes()
    content = encoded(COLOURED, kind, save_all=True, append_images=[other, other], **options)
    first = decoded(content, channels=3, notes=notes)[0]
    assert np.array_equal(first, decoded(encoded(COLOURED, kind, **options), channels=3)[0])
    assert notes.lines() == ("1 image with several frames or pages, of which the first is read: it",)


def test_eps_starts_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program is started"))
    with pytest.raises(DataError, match="it is not a readable image: its content is of no known format"):
        decoded(encoded(COLOURED, "EPS"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP", "GIF"])
def test_whatever_byte_is_wrong_the_image_is_named(kind: str) -> None:
    """Every damage gives an image or an error that names it, and no other exception."""
    content = encoded(COLOURED, kind)
    rng = np.random.default_rng(0)
    refused = []
    for at in [*rng.integers(0, len(content), 12), *range(12)]:
        damaged = bytearray(content)
        damaged[at] ^= int(rng.integers(1, 256))
        for candidate in (bytes(damaged), content[:at]):
            try:
                decoded(candidate)
            except DataError as error:
                refused.append(str(error))
    assert len(refused) > 12
    assert all(message.startswith("it") for message in refused)


def test_a_bomb_is_refused() -> None:
    with pytest.raises(DataError, match=r"it is not a readable image: .*decompression bomb"):
        decoded(b"P6 60000 60000 255\n" + bytes(100))


def test_more_images_than_memory_holds_are_refused() -> None:
    sources = [("it", io.BytesIO(encoded(COLOURED, "PNG")))]
    with pytest.raises(DataError, match="more than the memory; set `size`"):
        decode(sources, 2**55)
