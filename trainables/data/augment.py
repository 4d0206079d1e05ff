"""Random crops and flips of whole batches, on the device the images are on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(x: Tensor, *, crop: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift every image by up to `crop` pixels each way, padded with 0, and mirror half of them on average.

    Shapes: x (N, C, H, W) of any type; the result has the same memory format. Works on the stored
    bytes, which take a quarter of the memory of float32 pixels.
    """
    if not crop and not flip:
        return x
    n, channels, height, width = x.shape
    shift = torch.randint(2 * crop + 1, (2, n, 1), generator=generator, device=generator.device).to(x.device)
    rows = shift[0] + torch.arange(height, device=x.device)
    columns = shift[1] + torch.arange(width, device=x.device)
    if flip:
        mirrored = torch.randint(2, (n, 1), generator=generator, device=generator.device).to(x.device).bool()
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, (crop, crop, crop, crop))
    # One gather by indices that the channels share: twice as fast on a CPU as windows of `unfold` and a flip.
    index = rows[:, :, None] * (width + 2 * crop) + columns[:, None, :]
    index = index.view(n, 1, -1).expand(n, channels, height * width)
    taken = padded.flatten(2).gather(2, index).view(n, channels, height, width)
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return taken.contiguous(memory_format=torch.channels_last) if channels_last else taken
