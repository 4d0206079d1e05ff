"""The top-k mask against a brute force, with ties, in every memory format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import trainables
from trainables.pruning.cut import keep_best
from trainables.pruning.patterns import keep_pattern
from trainables.pruning.topk import highest, top_k

FORMATS = [torch.contiguous_format, torch.channels_last]


def brute_force(scores: list[float], among: list[bool], k: int) -> list[bool]:
    """Return the mask by a stable sort in Python: of equals the lower index first."""
    order = sorted((i for i in range(len(scores)) if among[i]), key=lambda i: -scores[i])
    return [i in order[: max(0, k)] for i in range(len(scores))]


def tied(shape: tuple[int, ...], values: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return scores of a few values only, so that many are equal, 0 and -0 among them, and a mask."""
    draws = torch.Generator().manual_seed(seed)
    scores = torch.randint(-values, values + 1, shape, generator=draws).float() / 2
    scores = torch.where(torch.rand(shape, generator=draws) > 0.5, scores, -scores)
    return scores, torch.rand(shape, generator=draws) > 0.3


@given(st.integers(1, 40), st.integers(0, 3), st.integers(-1, 45), st.integers(0, 10**6))
def test_ties_go_to_the_lower_index_as_in_a_stable_sort(n: int, values: int, k: int, seed: int) -> None:
    scores, among = tied((n,), values, seed)
    assert top_k(scores, k).tolist() == brute_force(scores.tolist(), [True] * n, k)
    assert top_k(scores, k, among).tolist() == brute_force(scores.tolist(), among.tolist(), k)
    stable = torch.zeros(n, dtype=torch.bool)
    stable[scores.sort(descending=True, stable=True).indices[: max(k, 0)]] = True
    assert torch.equal(top_k(scores, k), stable)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 10), st.integers(0, 10**6))
def test_each_row_is_chosen_by_itself(rows: int, n: int, k: int, seed: int) -> None:
    scores, among = tied((rows, n), 2, seed)
    found = top_k(scores, k, among)
    for row, (values, mask) in enumerate(zip(scores.tolist(), among.tolist(), strict=True)):
        assert found[row].tolist() == brute_force(values, mask, k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("memory", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("k", [0, 1, 17, 50, 108, 200])
def test_the_index_is_that_of_the_shape_in_every_memory_format(
    memory: torch.memory_format, dtype: torch.dtype, k: int
) -> None:
    scores, among = tied((4, 3, 3, 3), 2, 7)
    scores, among = (t.contiguous(memory_format=memory) for t in (scores.to(dtype), among))
    found = highest(scores, k, among)
    assert found.shape == scores.shape
    assert found.flatten().tolist() == brute_force(scores.flatten().tolist(), among.flatten().tolist(), k)


def test_the_highest_are_selected_in_every_memory_format() -> None:
    scores = torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    among = scores > 0.3
    last = highest(scores.to(memory_format=torch.channels_last), 20, among)
    assert torch.equal(last, highest(scores, 20, among))
    assert int(last.sum()) == 20
    assert float(scores[last].min()) >= float(scores[among & ~last].max())


@given(st.integers(0, 80), st.integers(0, 10**6), st.booleans())
def test_a_cut_of_several_layers_takes_ties_in_their_order(keep: int, seed: int, last: bool) -> None:
    scores, masks = {}, {}
    for index, shape in enumerate([(2, 3, 2, 2), (4, 8)]):
        score, mask = tied(shape, 2, seed + index)
        memory = torch.channels_last if last and len(shape) == 4 else torch.contiguous_format
        scores[str(index)], masks[str(index)] = score.contiguous(memory_format=memory), mask
    found = keep_best(scores, masks, keep)
    flat = [[x for t in tensors.values() for x in t.flatten().tolist()] for tensors in (scores, masks, found)]
    assert flat[2] == brute_force(flat[0], flat[1], keep)


@given(st.integers(1, 9), st.integers(1, 3), st.integers(2, 4), st.integers(0, 10**6))
def test_a_pattern_takes_ties_in_their_order(inputs: int, n: int, m: int, seed: int) -> None:
    scores, mask = tied((2, inputs), 1, seed)
    found = keep_pattern(scores, mask, n, m)
    for row in range(2):
        for start in range(0, inputs, m):
            part = slice(start, start + m)
            wanted = brute_force(scores[row, part].tolist(), mask[row, part].tolist(), n)
            assert found[row, part].tolist() == wanted


def test_no_other_module_takes_indices_of_the_highest() -> None:
    """`torch.topk` leaves ties open; what stands here uses its values, or chooses classes and no mask."""
    root = Path(trainables.__file__).parent
    users = {str(path.relative_to(root)) for path in root.rglob("*.py") if ".topk(" in path.read_text()}
    assert users == {"pruning/topk.py", "models/activations.py", "attacks/minimal.py", "attacks/losses.py"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("k", [1, 100, 999, 5000])
def test_a_gpu_breaks_ties_as_a_cpu_does(k: int) -> None:
    scores, among = tied((10_000,), 3, 1)
    assert torch.equal(top_k(scores.cuda(), k, among.cuda()).cpu(), top_k(scores, k, among))
