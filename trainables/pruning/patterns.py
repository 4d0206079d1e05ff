"""n:m sparsity: n living weights at most in every m consecutive inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.pruning.topk import top_k


def keep_pattern(scores: Tensor, mask: Tensor, n: int, m: int) -> Tensor:
    """Return the mask that keeps the `n` living weights of highest score in each group of `m` inputs.

    Inputs are grouped along the second dimension, for every output (and every place of a kernel) by itself; where
    `m` does not divide their number, the last group is smaller and keeps up to `n` as well. Ties go to the lower index.
    Source: Mishra et al. 2021, arXiv:2104.08378.

    Shapes: scores and mask (outputs, inputs, ...); a layer of one dimension is an error of ours.
    """
    assert scores.dim() > 1, "a layer's weight has outputs and inputs"
    ranked = torch.where(mask, scores.double(), -torch.inf).movedim(1, -1)
    inputs = ranked.shape[-1]
    padded = torch.full((*ranked.shape[:-1], -(-inputs // m) * m), -torch.inf, dtype=ranked.dtype, device=mask.device)
    padded[..., :inputs] = ranked
    groups = padded.view(*padded.shape[:-1], -1, m)
    kept = top_k(groups, n, groups > -torch.inf)
    return kept.flatten(-2)[..., :inputs].movedim(-1, 1).contiguous() & mask
