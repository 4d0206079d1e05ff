"""The losses of attacks: their gradients against autograd, and what they promise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trainables.attacks.losses import AttackLoss, CrossEntropy, Dlr, Margin, TargetedDlr

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(40, 6, generator=GENERATOR)
Y = torch.randint(6, (40,), generator=GENERATOR)
TARGETS = (Y + torch.randint(1, 6, (40,), generator=GENERATOR)) % 6
ROWS = torch.arange(40)


def margin(z: Tensor, y: Tensor) -> Tensor:
    others = z.masked_fill(nn.functional.one_hot(y, z.shape[1]).bool(), -torch.inf)
    return others.amax(1) - z[torch.arange(len(z)), y]


def dlr(z: Tensor, y: Tensor) -> Tensor:
    ordered = z.sort(dim=1, descending=True).values
    return margin(z, y) / (ordered[:, 0] - ordered[:, 2])


def targeted(z: Tensor, y: Tensor) -> Tensor:
    ordered = z.sort(dim=1, descending=True).values
    return (z[ROWS, TARGETS] - z[ROWS, y]) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2)


CASES: dict[str, tuple[AttackLoss, Callable[[Tensor, Tensor], Tensor]]] = {
    "ce": (CrossEntropy(Y), lambda z, y: nn.functional.cross_entropy(z, y, reduction="none")),
    "margin": (Margin(Y), margin),
    "dlr": (Dlr(Y), dlr),
    "targeted": (TargetedDlr(Y, TARGETS), targeted),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
def test_value_and_slope_are_those_of_the_formula(name: str, scale: float) -> None:
    loss, formula = CASES[name]
    z = (scale * LOGITS).requires_grad_()
    wanted = formula(z, Y)
    torch.testing.assert_close(loss.value(z.detach()), wanted.detach())
    (gradient,) = torch.autograd.grad(wanted.sum(), z)
    torch.testing.assert_close(loss.slope(z.detach()), gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_selection_is_the_loss_of_these_images(name: str) -> None:
    loss, _ = CASES[name]
    rows = torch.tensor([3, 0, 17])
    part = loss.select(rows)
    assert torch.equal(part.value(LOGITS[rows]), loss.value(LOGITS)[rows])
    assert torch.equal(part.slope(LOGITS[rows]), loss.slope(LOGITS)[rows])


@pytest.mark.parametrize("loss", [Margin, Dlr])
def test_the_sign_tells_what_is_misclassified(loss: type[AttackLoss]) -> None:
    assert torch.equal(loss(Y).value(LOGITS) > 0, LOGITS.argmax(1) != Y)


@pytest.mark.parametrize("classes", [2, 3])
def test_with_too_few_classes_for_its_scale_dlr_is_a_margin(classes: int) -> None:
    z, y = LOGITS[:, :classes], Y % classes
    target = (y + 1) % classes
    lead = z[ROWS, target] - z[ROWS, y]
    assert torch.equal(TargetedDlr(y, target).value(z), lead)
    assert bool((TargetedDlr(y, target).slope(z).abs().sum(1) == 2).all())
    if classes == 2:
        assert torch.equal(Dlr(y).value(z), lead)
        assert torch.equal(Dlr(y).slope(z), Margin(y).slope(z))


def test_dlr_does_not_see_the_scale_that_hides_the_gradient_of_the_cross_entropy() -> None:
    y = LOGITS.argmax(1)
    huge = 1e4 * LOGITS
    assert float(CrossEntropy(y).slope(huge).abs().median()) == 0
    torch.testing.assert_close(Dlr(y).value(huge), Dlr(y).value(LOGITS))
    torch.testing.assert_close(1e4 * Dlr(y).slope(huge), Dlr(y).slope(LOGITS), rtol=1e-3, atol=1e-4)
    assert torch.equal(Margin(y).slope(huge), Margin(y).slope(LOGITS))


@pytest.mark.parametrize("name", CASES)
def test_equal_logits_give_finite_numbers_in_their_type(name: str) -> None:
    loss, _ = CASES[name]
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        z = torch.zeros(40, 6, dtype=dtype)
        assert loss.slope(z).dtype == dtype
        assert bool(loss.slope(z).isfinite().all())
        assert bool(loss.value(z).isfinite().all())


@pytest.mark.parametrize("loss", [CrossEntropy, Margin, Dlr])
def test_certain_probabilities_are_class_indices(loss: type[AttackLoss]) -> None:
    soft = loss(nn.functional.one_hot(Y, 6).float())
    torch.testing.assert_close(soft.value(LOGITS), loss(Y).value(LOGITS))
    torch.testing.assert_close(soft.slope(LOGITS), loss(Y).slope(LOGITS))
    assert torch.equal(soft.labels, Y)
