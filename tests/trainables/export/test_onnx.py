"""ONNX: the same logits for every built-in network, and a refusal in one line for what cannot be exported."""

from __future__ import annotations

from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.models.factories import SHAPE, small_state, trained_net
from trainables.core.errors import SpecError
from trainables.export import onnx, program
from trainables.export.shrunk import shrunk
from trainables.store.state import prunable

IMAGES = torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(0))

NETS = [
    "linear",
    {"kind": "lenet300", "hidden": [40, 20], "active": 0.3},
    "lenet5",
    *(
        pytest.param(kind, marks=pytest.mark.slow)
        for kind in ("conv4", "resnet20", "resnet32", "resnet56", "resnet18", "vgg16", "wrn28_4")
    ),
]


def differences(content: bytes, net: nn.Module, images: Tensor) -> list[float]:
    """Return the largest difference of a logit for batches that no check has seen."""
    session = onnxruntime.InferenceSession(content)
    found = []
    for batch in (3, 11):
        (logits,) = session.run(["logits"], {"images": images[-batch:].numpy()})
        with torch.no_grad():
            found.append(float((torch.tensor(logits) - net(images[-batch:])).abs().max()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", NETS, ids=str)
def test_a_pruned_network_has_the_same_logits(model: Any) -> None:
    net = trained_net(model, 0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in prunable(net):
            weight = net.get_parameter(name)
            weight *= torch.rand(weight.shape, generator=generator) < 0.3
    content, checked = onnx.converted(net, program.exported(net, SHAPE), IMAGES)
    assert checked.batches == (1, 2, 7, 64)
    assert 0 < checked.largest_difference <= checked.tolerance
    assert max(differences(content, net, IMAGES)) <= 1e-3


@pytest.mark.slow
def test_a_network_without_its_dead_filters_has_the_same_logits() -> None:
    net = trained_net("conv4", 0).eval()
    small = shrunk(net, small_state(net, "filter"), SHAPE)
    content, _ = onnx.converted(small, program.exported(small, SHAPE), IMAGES)
    assert max(differences(content, small, IMAGES)) <= 1e-3


class Rounds(nn.Module):
    """Logits that are twice as large in ONNX."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SHAPE[0] * SHAPE[1] * SHAPE[2], 3)
        self.factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.linear(x.flatten(1))


@pytest.mark.slow
def test_other_logits_are_refused() -> None:
    net = Rounds().eval()
    exported = program.exported(net, SHAPE)
    net.factor = 1.001
    with pytest.raises(SpecError, match=r"other logits: they differ by 0.001 of the largest logit, and 0.0001"):
        onnx.converted(net, exported, IMAGES)


@pytest.mark.slow
def test_logits_that_are_not_finite_are_refused() -> None:
    net = Rounds().eval()
    net.factor = float("inf")
    with pytest.raises(SpecError, match="differ by inf"):
        onnx.converted(net, program.exported(net, SHAPE), IMAGES)


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Rounds().eval()
    exported = program.exported(net, SHAPE)
    monkeypatch.setattr(onnx, "PACKAGES", ("onnx", "no-such-package"))
    with pytest.raises(SpecError, match=r"package no-such-package, .* pip install 'robustsearch\[onnx\]'"):
        onnx.converted(net, exported, IMAGES)
