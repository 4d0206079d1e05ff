"""The frozen attack model against the network it stands for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from trainables import models
from trainables.models import MODELS
from trainables.models.graph.folding import FrozenAttackModel
from trainables.models.graph.mlp_gradient import layers_of
from trainables.models.normalised import Normalise, Normalised

FORMATS = [torch.contiguous_format, torch.channels_last]
QUICK = ["lenet300", "lenet5", "conv4", "resnet20"]
SLOW = sorted(set(MODELS) - {*QUICK, "torchvision", "wrn28_10"})


def worn(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and weights that a training might have left."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for name in ("running_mean", "bias", "running_var", "weight"):
                if (tensor := getattr(module, name)) is not None:
                    low = 0.5 if name in ("running_var", "weight") else -0.5
                    tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + low)
    return model


def input_gradient(function: object, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = function(x)  # type: ignore[operator]
    (gradient,) = torch.autograd.grad(logits.square().sum(), x)
    return logits.detach(), gradient


def close(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    return float((found - wanted).norm()) <= tolerance * float(wanted.norm())


def assert_stands_for(frozen: FrozenAttackModel, model: nn.Module, x: Tensor, tolerance: float = 1e-4) -> None:
    training = model.training
    with torch.no_grad():
        assert close(frozen(x), model.eval()(x), tolerance)
    # In double precision: where an activation is 0 but for rounding, single gradients jump.
    exact, x = copy.deepcopy(model).double(), x.double()
    wanted = input_gradient(exact, x)
    double = FrozenAttackModel(exact, "fp32", x)
    for found, want in zip(input_gradient(double, x), wanted, strict=True):
        assert close(found, want, 1e-9)
    assert close(double.input_gradient(x, lambda logits: 2 * logits), wanted[1], 1e-9)
    model.train(training)


@pytest.mark.slow
@pytest.mark.parametrize("memory", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)])
def test_the_frozen_model_equals_the_network_in_eval_mode(kind: str, memory: torch.memory_format) -> None:
    shape = (1, 28, 28) if kind.startswith("lenet") else (3, 32, 32)
    model = models.build(
        MODELS[kind](),
        shape=shape,
        classes=10,
        mean=(0.4, 0.5, 0.6)[: shape[0]],
        std=(0.2, 0.25, 0.3)[: shape[0]],
        seed=0,
    )
    model = worn(model).to(memory_format=memory)
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(2)).contiguous(memory_format=memory)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    frozen = FrozenAttackModel(model, "fp32", x)
    assert frozen.folded
    assert_stands_for(frozen, model, x)
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    half = FrozenAttackModel(model, "bf16", x)
    assert half.folded
    assert half(x).dtype == torch.float32
    # bf16 keeps 8 bits: a few per cent after tens of layers.
    assert close(half(x).detach(), frozen(x).detach(), 0.1)


def test_the_frozen_model_follows_the_weights_on_refresh() -> None:
    model = small()
    x = torch.rand(4, 3, 8, 8)
    frozen = FrozenAttackModel(model, "fp32", x)
    with torch.no_grad():
        for tensor in model.net.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.05)
    stale = frozen(x)
    frozen.refresh()
    assert not torch.allclose(stale, frozen(x))
    assert_stands_for(frozen, model, x)


def test_an_outdated_frozen_model_follows_the_weights_when_it_is_used() -> None:
    model = perceptron(nn.Flatten(), nn.Linear(192, 20), nn.ReLU(), nn.Linear(20, 5))
    x = torch.rand(6, 3, 8, 8)
    frozen = FrozenAttackModel(model, "fp32", x)
    before = frozen(x)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
    assert torch.equal(frozen(x), before)
    frozen.outdate()
    assert not torch.equal(frozen.input_gradient(x, lambda logits: 2 * logits), torch.zeros_like(x))
    assert_stands_for(frozen, model, x)


def test_no_gradient_reaches_weights_through_the_frozen_model() -> None:
    model = small()
    x = torch.rand(4, 3, 8, 8)
    frozen = FrozenAttackModel(model, "fp32", x)
    assert not frozen(x).requires_grad
    frozen(x.requires_grad_()).sum().backward()
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def small() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.BatchNorm2d(6),
        nn.Flatten(),
        nn.Linear(6 * 64, 12, bias=False),
        nn.BatchNorm1d(12, affine=False),
        nn.ReLU(),
        nn.Linear(12, 5),
    )
    return worn(Normalised(net, Normalise((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))))


class Odd(nn.Module):
    """A convolution that two batch norms read, a layer called twice, and layers that are not convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.again, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4)
        self.scale = nn.Parameter(torch.full((1, 4, 1, 1), 0.7))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = self.one(y) + self.two(y).relu()
        y = self.norm(self.again(self.again(y).relu())) * self.scale
        return self.head(y.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class Branching(nn.Module):
    """Control flow that depends on values: torch.fx cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits if bool(x.sum() > 0) else -logits


class Random(nn.Module):
    """Noise of a fixed shape: a trace would hold one draw for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x + torch.randn(3, 8, 8))
        return logits


def perceptron(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return Normalised(nn.Sequential(*layers), Normalise((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))


def test_perceptron_is_differentiated_by_hand_as_by_autograd() -> None:
    model = perceptron(
        nn.Flatten(), nn.Linear(192, 20), nn.ReLU(), nn.Linear(20, 12, bias=False), nn.ReLU(), nn.Linear(12, 5)
    )
    x = torch.rand(6, 3, 8, 8)
    for precision, tolerance in (("fp32", 1e-5), ("bf16", 0.05)):
        frozen = FrozenAttackModel(model, precision, x)  # type: ignore[arg-type]
        assert frozen._perceptron is not None
        _, wanted = input_gradient(model, x)
        found = frozen.input_gradient(x, lambda logits: 2 * logits)
        assert found.shape == x.shape
        assert close(found.float(), wanted, tolerance)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Flatten(), nn.Linear(192, 5), nn.ReLU()),
        (nn.Flatten(), nn.Linear(192, 20), nn.Linear(20, 5)),
        (nn.Flatten(), nn.Linear(192, 20), nn.Sigmoid(), nn.Linear(20, 5)),
        (nn.Linear(8, 20), nn.Flatten(), nn.Linear(480, 5)),
        (nn.Flatten(), nn.ReLU(), nn.Linear(192, 5)),
    ],
)
def test_nearly_a_perceptron_is_left_to_autograd(layers: tuple[nn.Module, ...]) -> None:
    model = perceptron(*layers)
    x = torch.rand(6, 3, 8, 8)
    frozen = FrozenAttackModel(model, "fp32", x)
    assert frozen._perceptron is None
    assert_stands_for(frozen, model, x)


@pytest.mark.parametrize("hidden", [(), (20,), (20, 12)])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_in_a_row_train_bit_for_bit_as_the_network(hidden: tuple[int, ...], bias: bool) -> None:
    spec = MODELS["lenet300"](hidden=hidden, bias=bias)
    model = models.build(spec, shape=(1, 8, 8), classes=10, mean=(0.3,), std=(0.2,), seed=0)
    row = layers_of(model)
    assert row is not None
    x = torch.rand(33, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(33) % 10
    wanted, found = (function(x) for function in (model, row))
    assert torch.equal(wanted, found)
    gradients = [
        torch.autograd.grad(nn.functional.cross_entropy(logits, y), list(model.parameters()))
        for logits in (wanted, found)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("memory", FORMATS)
@pytest.mark.parametrize("hidden", [(), (20,), (20, 12)])
def test_layers_in_a_row_are_attacked_bit_for_bit_as_the_network(
    hidden: tuple[int, ...], memory: torch.memory_format
) -> None:
    spec = MODELS["lenet300"](hidden=hidden)
    model = models.build(spec, shape=(3, 8, 8), classes=10, mean=(0.3, 0.4, 0.5), std=(0.2, 0.1, 0.3), seed=0)
    row = layers_of(model)
    assert row is not None
    x = torch.rand(33, 3, 8, 8, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=memory)
    logits, wanted = input_gradient(model, x)
    assert torch.equal(row(x), logits)
    assert torch.equal(row.input_gradient(x, lambda logits: 2 * logits), wanted)


def test_what_is_no_row_of_layers_is_called_as_a_module() -> None:
    def none_for(*layers: nn.Module) -> bool:
        return layers_of(perceptron(nn.Flatten(), *layers)) is None

    assert not none_for(nn.Linear(192, 20), nn.ReLU(), nn.Linear(20, 5))
    assert none_for(nn.Linear(192, 5), nn.ReLU())
    assert none_for(nn.Linear(192, 20), nn.Sigmoid(), nn.Linear(20, 5))
    assert none_for(nn.Linear(192, 20), nn.BatchNorm1d(20), nn.Linear(20, 5))
    parametrised = nn.utils.parametrizations.weight_norm(nn.Linear(192, 5))
    assert none_for(parametrised)
    hooked = nn.Linear(192, 5)
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert none_for(hooked)
    assert layers_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 5))) is None


def test_what_does_not_fold_is_kept() -> None:
    torch.manual_seed(0)
    model = worn(Normalised(Odd(), Normalise((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))))
    x = torch.rand(4, 3, 8, 8)
    frozen = FrozenAttackModel(model, "fp32", x)
    assert frozen.folded
    assert_stands_for(frozen, model, x)
    half = FrozenAttackModel(model, "bf16", x)
    assert half.folded
    assert close(half(x).detach(), frozen(x).detach(), 0.1)
    with torch.no_grad():
        model.net.scale.mul_(2)
        model.net.one.bias.add_(1)
    frozen.refresh()
    assert_stands_for(frozen, model, x)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_network_that_cannot_be_traced_gets_a_copy(precision: str) -> None:
    model = Branching()
    x = torch.rand(4, 3, 8, 8)
    frozen = FrozenAttackModel(model, precision, x)  # type: ignore[arg-type]
    assert not frozen.folded
    assert_stands_for(frozen, model, x, 1e-6 if precision == "fp32" else 0.1)


def test_a_perceptron_that_cannot_be_computed_in_bf16_is_followed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = torch.nn.functional.linear

    def refuse(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if x.dtype == torch.bfloat16 and not torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no kernel for bf16")
        return linear(x, weight, bias)

    x = torch.rand(4, 1, 4, 4)
    net = models.build(
        MODELS.parse({"kind": "lenet300", "hidden": [8]}), shape=(1, 4, 4), classes=3, mean=(0.0,), std=(1.0,), seed=0
    )
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", refuse)
        frozen = FrozenAttackModel(net, "bf16", x)
    assert not frozen.folded
    before = frozen.input_gradient(x, torch.ones_like)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(-2)
    frozen.outdate()
    assert not torch.equal(frozen.input_gradient(x, torch.ones_like), before)


def test_random_network_is_not_frozen_by_its_trace() -> None:
    x = torch.rand(4, 3, 8, 8)
    frozen = FrozenAttackModel(Random(), "fp32", x)
    assert not frozen.folded
    assert not torch.equal(frozen(x), frozen(x))


def test_perceptron_with_sparse_matrices_has_the_gradients_of_the_dense_one() -> None:
    model = perceptron(
        nn.Flatten(), nn.Linear(192, 300), nn.ReLU(), nn.Linear(300, 100, bias=False), nn.ReLU(), nn.Linear(100, 5)
    )
    draws = torch.Generator().manual_seed(0)
    zeros = {"net.1.weight": 0.95, "net.3.weight": 0.92, "net.5.weight": 0.95}
    masks = {name: torch.rand(model.get_parameter(name).shape, generator=draws) > z for name, z in zeros.items()}
    x = torch.rand(6, 3, 8, 8, generator=draws)
    dense, sparse = FrozenAttackModel(model, "fp32", x), FrozenAttackModel(model, "fp32", x, masks)
    assert sparse._perceptron is not None
    assert len(sparse._perceptron._sparse) == 2, "the last layer is small"
    for _ in range(2):
        with torch.no_grad():
            for name, mask in masks.items():
                model.get_parameter(name).normal_(generator=draws).mul_(mask)
        dense.refresh(), sparse.refresh()
        found, wanted = (net.input_gradient(x, lambda logits: 2 * logits) for net in (sparse, dense))
        assert found.shape == x.shape
        assert close(found, wanted, 1e-5)
    half = FrozenAttackModel(model, "bf16", x, masks)
    assert half._perceptron is not None
    assert not half._perceptron._sparse, "there are no such kernels"
