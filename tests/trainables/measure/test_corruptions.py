from __future__ import annotations

import pytest
import torch

from trainables.measure.corruptions import corrupted
from trainables.method.confirmation import SEVERITIES, Corruption

X = torch.rand(4, 3, 9, 7, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)


def made(kind: Corruption, severity: float, x: torch.Tensor = X, seed: int = 0) -> torch.Tensor:
    return corrupted(kind, severity, x, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", list(SEVERITIES))
def test_images_stay_images_and_change_more_with_severity(kind: Corruption) -> None:
    found = [made(kind, severity) for severity in SEVERITIES[kind]]
    assert all(image.shape == X.shape and 0 <= image.min() <= image.max() <= 1 for image in found)
    changes = [float((image - X).abs().mean()) for image in found]
    assert 0 < changes[0] < changes[1] < changes[2]
    assert torch.equal(found[0], made(kind, SEVERITIES[kind][0]))


def test_each_is_what_it_says() -> None:
    dark = torch.full((1, 1, 64, 64), 0.5)
    assert float(made("gaussian_noise", 0.1, dark).std()) == pytest.approx(0.1, rel=0.05)
    assert torch.allclose(made("brightness", 0.3, dark), dark + 0.3)
    middle = X.mean(dim=(1, 2, 3), keepdim=True)
    assert torch.allclose(made("contrast", 0.25), middle + 0.25 * (X - middle))


def test_blur_is_the_normal_density_around_a_single_pixel() -> None:
    """Far from edges the variance of a spot is sigma squared, and nothing of it is lost."""
    spot = torch.zeros(1, 1, 21, 21)
    spot[0, 0, 10, 10] = 1
    found = made("blur", 1.0, spot)[0, 0]
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    places = torch.arange(21.0) - 10
    assert float((found.sum(dim=1) * places.square()).sum()) == pytest.approx(1.0, rel=0.05)
    assert torch.allclose(found, found.T)
