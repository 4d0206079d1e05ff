from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from trainables import models
from trainables.core.errors import SpecError
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.models.normalised import LEAST_STD, Normalised


def built(fields: object, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10) -> Normalised:
    channels = shape[0]
    spec = MODELS.parse(fields)
    return models.build(spec, shape=shape, classes=classes, mean=[0.5] * channels, std=[0.25] * channels, seed=0)


@pytest.mark.parametrize(
    ("kind", "shape", "parameters"),
    [
        ("lenet300", (1, 28, 28), 266_610),
        ("lenet5", (1, 28, 28), 431_080),
        ("conv4", (3, 32, 32), 2_425_930),
        ("resnet20", (3, 32, 32), 269_722),
        ("resnet32", (3, 32, 32), 464_154),
        ("resnet56", (3, 32, 32), 853_018),
        ("resnet18", (3, 32, 32), 11_173_962),
        ("vgg16", (3, 32, 32), 15_311_818),
        ("wrn28_4", (3, 32, 32), 5_849_050),
        ("wrn28_10", (3, 32, 32), 36_479_194),
    ],
)
def test_parameter_counts_are_those_of_the_literature(kind: str, shape: tuple[int, int, int], parameters: int) -> None:
    assert sum(p.numel() for p in built(kind, shape).parameters()) == parameters


def test_benchmark_nets_carry_the_benchmarks_parameter_names() -> None:
    resnet = built("resnet18").net.state_dict()
    assert resnet["layer2.0.shortcut.0.weight"].shape == (128, 64, 1, 1)
    assert resnet["layer4.1.bn2.running_var"].shape == (512,)
    assert resnet["linear.weight"].shape == (10, 512)
    vgg = built("vgg16").net.state_dict()
    assert vgg["features.40.weight"].shape == (512, 512, 3, 3)
    assert vgg["classifier.0.weight"].shape == (256, 2048)


def test_option_a_shortcut_takes_every_second_pixel_and_pads_channels() -> None:
    from trainables.models.nets.resnet import PadShortcut

    x = torch.arange(2 * 2 * 3 * 3, dtype=torch.float32).reshape(2, 2, 3, 3)
    out = PadShortcut(2)(x)
    assert out.shape == (2, 4, 2, 2)
    assert torch.equal(out[:, 1:3], x[:, :, ::2, ::2])
    assert out[:, [0, 3]].count_nonzero() == 0


def test_hidden_layers_of_lenet300_can_be_chosen() -> None:
    net = built({"kind": "lenet300", "hidden": [8]}, (1, 4, 4)).net
    assert [tuple(p.shape) for p in net.parameters()] == [(8, 16), (8,), (10, 8), (10,)]
    with pytest.raises(ValidationError):
        MODELS.parse({"kind": "lenet300", "hidden": [0]})


def test_constant_channel_is_not_divided_by_zero() -> None:
    model = models.build(MODELS.parse("lenet300"), shape=(1, 4, 4), classes=2, mean=[0.5], std=[0.0], seed=0)
    assert model.normalise is not None
    assert model.normalise.std.item() == pytest.approx(LEAST_STD)
    assert model(torch.rand(2, 1, 4, 4)).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "shape", "words"),
    [
        ("lenet5", (1, 8, 8), "lenet5 needs images of at least 16x16 pixels; these have 8x8"),
        ("conv4", (1, 2, 9), "at least 4x4 pixels"),
        ("vgg16", (3, 8, 8), "at least 16x16 pixels"),
        ({"kind": "torchvision", "name": "resnet19"}, (3, 32, 32), "did you mean 'resnet18'"),
        ({"kind": "torchvision", "name": "resnet18"}, (1, 32, 32), "3 channels; these have 1"),
        ({"kind": "torchvision", "name": "alexnet"}, (3, 16, 16), "alexnet cannot take images of 3x16x16"),
        ({"kind": "torchvision", "name": "vit_b_32"}, (3, 32, 32), "Expected 224"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_the_reason(
    fields: object, shape: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        built(fields, shape)


def test_torchvision_names_are_plain() -> None:
    with pytest.raises(ValidationError):
        MODELS.parse({"kind": "torchvision", "name": "../resnet18"})
    with pytest.raises(ValidationError):
        MODELS.parse("torchvision")


def test_torchvision_nets_with_auxiliary_heads_return_plain_logits() -> None:
    model = built({"kind": "torchvision", "name": "googlenet"}, classes=4)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 4)


class Odd(Model):
    kind: str = "odd"
    returns: str = "features"

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes + 1))


def test_own_net_with_a_wrong_number_of_logits_is_refused() -> None:
    with pytest.raises(SpecError, match=r"odd returns \(6,\) per image; 5 logits are needed"):
        models.build(Odd(), shape=(1, 2, 2), classes=5, mean=[0.0], std=[1.0], seed=0)


@pytest.mark.slow
def test_specs_need_no_torch_and_weights_are_the_same_in_another_process() -> None:
    code = (
        "import sys\n"
        "from trainables import models\n"
        "assert not {'torch', 'torchvision', 'numpy'} & set(sys.modules)\n"
        "spec = models.MODELS.parse('resnet20')\n"
        "m = models.build(spec, shape=(3, 32, 32), classes=10, mean=[.5] * 3, std=[.25] * 3, seed=0)\n"
        "from trainables.store.state import State\n"
        "print(State.of(m).weights_sha256())"
    )
    from trainables.store.state import State

    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == State.of(built("resnet20")).weights_sha256()


def test_a_single_weight_vector_decides_between_two_classes() -> None:
    net = built({"kind": "linear", "single": True, "normalise": False}, (1, 28, 28), 2)
    assert sum(p.numel() for p in net.parameters()) == 785
    x = torch.rand(5, 1, 28, 28)
    weight, bias = net.parameters()
    logits = net(x)
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], x.flatten(1) @ weight[0] + bias[0])
    torch.testing.assert_close(logits.sum(dim=1), torch.zeros(5))
    with pytest.raises(SpecError, match="two classes"):
        built({"kind": "linear", "single": True}, (1, 28, 28), 10)
