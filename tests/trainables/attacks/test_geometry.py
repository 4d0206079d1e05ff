"""Properties of the projection onto ball and box."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from trainables.attacks.geometry import region

FORMATS = [torch.contiguous_format, torch.channels_last]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, float | Tensor, str]:
    """A batch in the box, a point anywhere, a radius (one or one per image) and a norm."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    spread = draw(st.sampled_from([0.5, 1.0, 3.0]))
    x = ((torch.rand(shape, generator=generator) - 0.5) * spread + 0.5).clamp(0, 1)
    z = x + torch.randn(shape, generator=generator) * draw(st.sampled_from([1e-3, 0.1, 2.0]))
    eps: float | Tensor = draw(st.sampled_from([1e-3, 8 / 255, 0.5, 3.0]))
    if draw(st.booleans()):
        eps = torch.rand(shape[0], generator=generator) * eps
    memory = draw(st.sampled_from(FORMATS))
    return (
        x.contiguous(memory_format=memory),
        z.contiguous(memory_format=memory),
        eps,
        draw(st.sampled_from(["linf", "l2"])),
    )


def lengths(delta: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(delta.flatten(1), ord={"linf": torch.inf, "l2": 2}[norm], dim=1)


@given(cases())
@settings(deadline=None, max_examples=150)
def test_projection_is_in_ball_and_box_and_stays_put(case: tuple[Tensor, Tensor, float | Tensor, str]) -> None:
    x, z, eps, norm = case
    before = z.clone()
    around = region(norm, x, eps)
    projected = around.project(z)
    assert torch.equal(z, before)
    assert bool((lengths(projected - x, norm) <= torch.as_tensor(eps) + 1e-6).all())
    assert float(projected.min()) >= 0
    assert float(projected.max()) <= 1
    assert projected.is_contiguous(memory_format=torch.channels_last) or not x.is_contiguous(
        memory_format=torch.channels_last
    )
    torch.testing.assert_close(around.project(projected), projected, atol=1e-6, rtol=1e-5)


@given(cases())
@settings(deadline=None, max_examples=100)
def test_no_allowed_point_is_nearer_than_the_projection(case: tuple[Tensor, Tensor, float | Tensor, str]) -> None:
    """A projection p onto a convex set makes no acute angle: (z - p)(q - p) <= 0 for every q in the set."""
    x, z, eps, norm = case
    around = region(norm, x, eps)
    p = around.project(z)
    for seed in range(3):
        q = around.draw(torch.Generator().manual_seed(seed))
        outward = ((z - p) * (q - p)).flatten(1).double().sum(1)
        assert float(outward.max()) <= 1e-4 * float((z - p).abs().max() + 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_draws_fill_the_ball(norm: str) -> None:
    """Half of the draws lie beyond the radius that holds half of the volume."""
    x = torch.full((4000, 1, 1, 2), 0.5)
    drawn = region(norm, x, 0.1).draw(torch.Generator().manual_seed(0)) - x
    inside = (lengths(drawn, norm) <= 0.1 * 0.5**0.5).float().mean().item()
    assert abs(inside - 0.5) < 0.03
    assert abs(drawn.mean().item()) < 0.005


def test_a_tiny_gradient_still_moves_an_l2_step_of_full_length() -> None:
    x = torch.full((2, 1, 3, 3), 0.5)
    moved = region("l2", x, 1.0).ascend(x.clone(), torch.full_like(x, 1e-28), 0.1)
    torch.testing.assert_close(lengths(moved - x, "l2"), torch.full((2,), 0.1))
