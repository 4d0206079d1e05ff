"""A batch of several parts that are attacked together, with draws as if each were attacked alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import torch


class Parts(torch.Generator):
    """The generators of the parts of a batch, in place of one: for attacks whose `takes_parts` is true.

    Those draw for each part from its generator. `sizes` are the images of each, in the order of the batch.
    """

    def __new__(cls, sizes: Sequence[int], generators: Sequence[torch.Generator]) -> Self:
        return super().__new__(cls, generators[0].device)  # type: ignore[call-arg]

    def __init__(self, sizes: Sequence[int], generators: Sequence[torch.Generator]) -> None:
        self._sizes, self._generators = sizes, generators

    def __iter__(self) -> Iterator[tuple[slice, torch.Generator]]:
        """Yield each part's place in the batch, and its generator."""
        first = 0
        for size, generator in zip(self._sizes, self._generators, strict=True):
            yield slice(first, first + size), generator
            first += size
