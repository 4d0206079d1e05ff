from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.data.augment import augment
from trainables.data.tensors import batches

FORMATS = [torch.contiguous_format, torch.channels_last]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, memory_format: torch.memory_format, dtype: torch.dtype = torch.uint8) -> Tensor:
    x = torch.randint(1, 256, (n, 3, 7, 9), generator=seeded(9)).to(dtype)
    return x.contiguous(memory_format=memory_format)


def variants(image: np.ndarray, crop: int, flip: bool) -> dict[bytes, tuple[int, int, bool]]:
    """Every shifted and mirrored form of one image, by slicing alone."""
    _, height, width = image.shape
    padded = np.zeros((3, height + 2 * crop, width + 2 * crop), image.dtype)
    padded[:, crop : crop + height, crop : crop + width] = image
    found = {}
    for down in range(2 * crop + 1):
        for right in range(2 * crop + 1):
            window = padded[:, down : down + height, right : right + width]
            found[window.tobytes()] = (down, right, False)
            if flip:
                found[window[:, :, ::-1].tobytes()] = (down, right, True)
    return found


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("crop", "flip"), [(2, True), (2, False), (0, True), (4, True)])
def test_every_image_is_a_shifted_or_mirrored_original(
    memory_format: torch.memory_format, dtype: torch.dtype, crop: int, flip: bool
) -> None:
    x = images(40, memory_format, dtype)
    before = x.clone()
    out = augment(x, crop=crop, flip=flip, generator=seeded())
    assert torch.equal(x, before), "the input stays as it is"
    assert out.shape == x.shape
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=memory_format)
    for original, result in zip(x.numpy(), out.numpy(), strict=True):
        assert np.ascontiguousarray(result).tobytes() in variants(np.ascontiguousarray(original), crop, flip)


def test_shifts_and_flips_are_uniform_and_independent() -> None:
    """18 outcomes of equal probability, chi squared with 17 degrees of freedom below its 0.9999 quantile."""
    x = images(1, torch.contiguous_format)
    table = variants(x[0].numpy(), 1, True)
    out = augment(x.expand(9000, -1, -1, -1), crop=1, flip=True, generator=seeded(3))
    seen = [table[image.tobytes()] for image in out.numpy()]
    counts = np.array([seen.count(outcome) for outcome in sorted(set(table.values()))])
    assert len(counts) == 18
    assert ((counts - 500) ** 2 / 500).sum() < 45.1


def test_memory_formats_draw_alike() -> None:
    plain, last = (augment(images(16, f), crop=3, flip=True, generator=seeded()) for f in FORMATS)
    assert torch.equal(plain, last)


def test_the_generator_decides() -> None:
    x = images(32, torch.contiguous_format)
    first, again, other = (augment(x, crop=3, flip=True, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    augment(x, crop=3, flip=True, generator=seeded(1))
    assert torch.equal(torch.rand(1), expected), "the global generator is left alone"


def test_nothing_to_do_is_the_identity() -> None:
    x = images(4, torch.channels_last)
    assert augment(x, crop=0, flip=False, generator=seeded()) is x


@pytest.mark.parametrize(("n", "batch", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 8, [3])])
def test_batches_cover_everything_once(n: int, batch: int, sizes: list[int]) -> None:
    parts = list(batches(n, batch, seeded()))
    assert [len(part) for part in parts] == sizes
    assert sorted(torch.cat(parts).tolist()) == list(range(n))
    assert torch.cat(parts).tolist() == torch.cat(list(batches(n, 1, seeded()))).tolist()


def test_batches_follow_the_seed() -> None:
    first, again, other = (torch.cat(list(batches(50, 8, seeded(s)))).tolist() for s in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.gpu
def test_on_the_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    x = images(40, torch.channels_last).cuda()
    out = augment(x, crop=2, flip=True, generator=torch.Generator("cuda").manual_seed(0)).cpu().numpy()
    for original, result in zip(x.cpu().numpy(), out, strict=True):
        assert np.ascontiguousarray(result).tobytes() in variants(np.ascontiguousarray(original), 2, True)
