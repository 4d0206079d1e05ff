"""Random noise breaks what it must, and no more."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.attacks.oracles import Linear
from trainables.attacks import run
from trainables.attacks.noise import Noise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_draws_find_shorter_leads(norm: str) -> None:
    model = Linear((1, 4, 4))
    x = torch.rand(20, 1, 4, 4, generator=generator(1)) * 0.4 + 0.3
    y = model(x).argmax(dim=1)
    lead = []
    for draws in (1, 10, 100):
        found = run(Noise(norm=norm, draws=draws), model, x, y, eps=0.1, generator=generator(), keep="last")
        logits = model(found)
        lead.append(logits.gather(1, y[:, None])[:, 0] - logits.gather(1, 1 - y[:, None])[:, 0])
    assert bool((lead[1] <= lead[0]).all())
    assert bool((lead[2] <= lead[1]).all())
    assert bool((lead[2] < lead[0]).any())


def test_breaks_an_image_at_the_boundary_and_none_far_from_it() -> None:
    model = Linear((1, 4, 4))
    x = torch.full((2, 1, 4, 4), 0.5)
    weight = model.weight.detach()
    per_unit = float(weight.square().sum())
    at = [(offset - float((x[0] * weight).sum())) / per_unit for offset in (1e-4, 0.3)]
    x = x + torch.tensor(at).view(2, 1, 1, 1) * weight
    found = run(Noise(draws=50), model, x, torch.zeros(2, dtype=torch.long), eps=0.02, generator=generator())
    assert model(found).argmax(dim=1).tolist() == [1, 0]
