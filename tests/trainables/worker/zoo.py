"""Networks as people write them: each builds for images of any shape, and has something that is not plain."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import prod
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Shape = tuple[int, int, int]
Build = Callable[[Shape, int], nn.Module]

WORKS: dict[str, Build] = {}
"""Networks of which a trial completes, and whose saved file has the same logits."""

REFUSED: dict[str, tuple[Build, str]] = {}
"""Networks that no trial can use, with a part of the message."""


def works(build: Build) -> Build:
    WORKS[build.__name__] = build
    return build


def refused(message: str) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        REFUSED[build.__name__] = (build, message)
        return build

    return register


class Net(nn.Module):
    """A perceptron; subclasses add what is not plain."""

    def __init__(self, shape: Shape, classes: int, hidden: int = 24) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(prod(shape), hidden), nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Any:
        return self.last(F.relu(self.first(x.flatten(1))))


def perceptron(shape: Shape, classes: int, *between: nn.Module, first: nn.Module | None = None) -> nn.Module:
    layer = nn.Linear(prod(shape), 24) if first is None else first
    return nn.Sequential(nn.Flatten(), layer, *between, nn.ReLU(), nn.Linear(24, classes))


@works
def detached_input(shape: Shape, classes: int) -> nn.Module:
    class Detached(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.detach())

    return Detached(shape, classes)


@works
def tied_weights(shape: Shape, classes: int) -> nn.Module:
    class Tied(Net):
        def __init__(self) -> None:
            super().__init__(shape, classes)
            self.one, self.two = nn.Linear(24, 24), nn.Linear(24, 24)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            hidden = F.relu(self.one(F.relu(self.first(x.flatten(1)))))
            return cast(Tensor, self.last(F.relu(self.two(hidden))))

    return Tied()


@works
def one_module_under_two_names(shape: Shape, classes: int) -> nn.Module:
    middle = nn.Linear(24, 24)
    return perceptron(shape, classes, nn.ReLU(), middle, nn.ReLU(), middle)


@works
def tied_scales_of_batch_norms(shape: Shape, classes: int) -> nn.Module:
    one, two = nn.BatchNorm1d(24), nn.BatchNorm1d(24)
    two.weight = one.weight
    return perceptron(shape, classes, one, nn.ReLU(), nn.Linear(24, 24), two)


@works
def weight_norm(shape: Shape, classes: int) -> nn.Module:
    return perceptron(shape, classes, first=parametrizations.weight_norm(nn.Linear(prod(shape), 24)))


@works
def old_weight_norm(shape: Shape, classes: int) -> nn.Module:
    return perceptron(shape, classes, first=_old(nn.utils.weight_norm, nn.Linear(prod(shape), 24)))


@works
def spectral_norm(shape: Shape, classes: int) -> nn.Module:
    return perceptron(shape, classes, first=parametrizations.spectral_norm(nn.Linear(prod(shape), 24)))


@works
def old_spectral_norm(shape: Shape, classes: int) -> nn.Module:
    return perceptron(shape, classes, first=_old(nn.utils.spectral_norm, nn.Linear(prod(shape), 24)))


def _old(norm: Callable[[nn.Module], nn.Module], layer: nn.Module) -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return norm(layer)


@works
def weight_norm_before_batch_norm(shape: Shape, classes: int) -> nn.Module:
    layer = parametrizations.weight_norm(nn.Conv2d(shape[0], 4, 3, padding=1))
    head = nn.Linear(4 * shape[1] * shape[2], classes)
    return nn.Sequential(layer, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(), head)


@works
def own_parametrization(shape: Shape, classes: int) -> nn.Module:
    class Centred(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight - weight.mean(dim=1, keepdim=True)

    layer = nn.Linear(prod(shape), 24)
    nn.utils.parametrize.register_parametrization(layer, "weight", Centred())
    return perceptron(shape, classes, first=layer)


@works
def temporary_buffer(shape: Shape, classes: int) -> nn.Module:
    net = Net(shape, classes)
    net.register_buffer("offset", torch.rand(prod(shape)), persistent=False)
    net.first.register_forward_pre_hook(lambda module, inputs: inputs[0] + 0)

    class Shifted(Net):
        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, super().forward(x.flatten(1) + self.offset))

    net.__class__ = Shifted
    return net


@works
def absent_buffer_and_parameter(shape: Shape, classes: int) -> nn.Module:
    net = Net(shape, classes)
    net.register_buffer("cache", None)
    net.register_parameter("gain", None)
    return net


@works
def reads_its_version(shape: Shape, classes: int) -> nn.Module:
    class Versioned(Net):
        _version = 2

        def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
            if metadata.get("version", None) is None:
                raise RuntimeError("the state has no version")
            super()._load_from_state_dict(state, prefix, metadata, *rest)  # type: ignore[no-untyped-call]

    return Versioned(shape, classes)


@works
def branches_on_values(shape: Shape, classes: int) -> nn.Module:
    class Branching(Net):
        def forward(self, x: Tensor) -> Tensor:
            assert x.isfinite().all()
            return cast(Tensor, super().forward(x / x.abs().max() if x.abs().max() > 100 else x))

    return Branching(shape, classes)


@works
def reads_a_parameter(shape: Shape, classes: int) -> nn.Module:
    class Scaled(Net):
        def __init__(self) -> None:
            super().__init__(shape, classes)
            self.temperature = nn.Parameter(torch.tensor(1.0))

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, super().forward(x)) / max(self.temperature.item(), 0.1)

    return Scaled()


@works
def plain_tensor(shape: Shape, classes: int) -> nn.Module:
    class Positioned(Net):
        def __init__(self) -> None:
            super().__init__(shape, classes)
            self.offset = torch.linspace(0, 1, prod(shape))
            self.seen: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.seen is None:
                self.seen = torch.linspace(0.5, 1, prod(shape), device=x.device)
            return cast(Tensor, super().forward(x.flatten(1) * self.seen + self.offset))

    return Positioned()


@works
def keeps_its_last_features(shape: Shape, classes: int) -> nn.Module:
    class Keeping(Net):
        def forward(self, x: Tensor) -> Tensor:
            self.features = F.relu(self.first(x.flatten(1)))
            return cast(Tensor, self.last(self.features))

    return Keeping(shape, classes)


@works
def lazy(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(24), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(classes))


@works
def attention(shape: Shape, classes: int) -> nn.Module:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.last = nn.Linear(prod(shape) // 4, 16), nn.Linear(16, classes)
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.embed(x.flatten(1).reshape(len(x), 4, -1))
            return cast(Tensor, self.last(self.layer(tokens).mean(1)))

    return Attending()


@works
def recurrent(shape: Shape, classes: int) -> nn.Module:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.last = nn.LSTM(shape[2], 16, batch_first=True), nn.Linear(16, classes)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.last(self.rows(x[:, 0])[0][:, -1]))

    return Recurrent()


@works
def batch_norm_of_features(shape: Shape, classes: int) -> nn.Module:
    return perceptron(shape, classes, nn.BatchNorm1d(24))


@works
def batch_norm_of_one_pixel(shape: Shape, classes: int) -> nn.Module:
    layers = (nn.Conv2d(shape[0], 8, shape[1:]), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, classes))
    return nn.Sequential(*layers)


@works
def grouped_convolutions(shape: Shape, classes: int) -> nn.Module:
    layers = (nn.Conv2d(shape[0], 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.GroupNorm(2, 8), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


@works
def changes_normalised_input_in_place(shape: Shape, classes: int) -> nn.Module:
    class InPlace(Net):
        def forward(self, x: Tensor) -> Tensor:
            x -= 0.1
            return cast(Tensor, super().forward(x))

    return InPlace(shape, classes)


@works
def frozen_layer(shape: Shape, classes: int) -> nn.Module:
    net = Net(shape, classes)
    net.first.requires_grad_(False)
    return net


@works
def unused_layer(shape: Shape, classes: int) -> nn.Module:
    net = Net(shape, classes)
    net.add_module("unused", nn.Linear(50, 50))
    return net


@works
def hooked_layer(shape: Shape, classes: int) -> nn.Module:
    net = Net(shape, classes)
    net.first.register_forward_hook(lambda module, inputs, output: 2 * output)
    return net


@works
def compiled(shape: Shape, classes: int) -> nn.Module:
    return cast(nn.Module, torch.compile(perceptron(shape, classes), backend="eager"))


@works
def odd_names(shape: Shape, classes: int) -> nn.Module:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.normalise = nn.ModuleDict({"a/b": nn.Linear(prod(shape), 24), "noise:alpha": nn.Linear(24, classes)})
            self.empty = nn.Parameter(torch.empty(0))

        def forward(self, x: Tensor) -> Tensor:
            hidden = F.relu(self.normalise["a/b"](x.flatten(1)))
            return cast(Tensor, self.normalise["noise:alpha"](hidden))

    return Odd()


@works
def global_state_in_init(shape: Shape, classes: int) -> nn.Module:
    torch.manual_seed(random.randrange(100))
    net = Net(shape, classes)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    return net


@works
def channels_last(shape: Shape, classes: int) -> nn.Module:
    head = nn.Linear(4 * shape[1] * shape[2], classes)
    net = nn.Sequential(nn.Conv2d(shape[0], 4, 3, padding=1), nn.ReLU(), nn.Flatten(), head)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@works
def data_parallel(shape: Shape, classes: int) -> nn.Module:
    return nn.DataParallel(perceptron(shape, classes))


@works
def cannot_be_pickled(shape: Shape, classes: int) -> nn.Module:
    net = Net(shape, classes)
    net.activation = lambda x: x  # type: ignore[assignment]
    return net


@works
def parameter_that_is_a_buffer(shape: Shape, classes: int) -> nn.Module:
    class Noting(Net):
        noted: Tensor

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, super().forward(x)) + self.noted.mean()

    net = Noting(shape, classes)
    net.register_buffer("noted", net.first.weight)
    return net


@works
def convolution_of_volumes(shape: Shape, classes: int) -> nn.Module:
    layers = (nn.Unflatten(1, (shape[0], 1)), nn.Conv3d(shape[0], 4, (1, 3, 3)), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.LazyLinear(classes))


@refused("has other logits when it is built from another seed and gets the same weights")
def layers_in_a_plain_list(shape: Shape, classes: int) -> nn.Module:
    class Listing(Net):
        def __init__(self) -> None:
            super().__init__(shape, classes)
            self.layers = [nn.Linear(24, 24)]

        def forward(self, x: Tensor) -> Any:
            return self.last(F.relu(self.layers[0](self.first(x.flatten(1)))))

    return Listing()


@refused("has other logits when it is built from another seed and gets the same weights")
def random_plain_tensor(shape: Shape, classes: int) -> nn.Module:
    class Random(Net):
        def __init__(self) -> None:
            super().__init__(shape, classes)
            self.offset = torch.randn(prod(shape))

        def forward(self, x: Tensor) -> Any:
            return super().forward(x.flatten(1) + self.offset)

    return Random()


@refused("has other logits when it is built from another seed and gets the same weights")
def two_tensors_of_one_name(shape: Shape, classes: int) -> nn.Module:
    class Clashing(Net):
        def forward(self, x: Tensor) -> Any:
            hidden = cast(nn.Module, self._modules["a.b"])(F.relu(self.first(x.flatten(1))))
            return self.last(F.relu(cast(Any, self).a.b(hidden)))

    net = Clashing(shape, classes)
    net._modules["a.b"] = nn.Linear(24, 24)
    net.a = nn.ModuleDict({"b": nn.Linear(24, 24)})  # type: ignore[assignment]
    net.a.b = net.a["b"]  # type: ignore[union-attr,index]
    return net


@refused("returns (10,) for 1 image in eval mode; 10 logits per image are needed; keep the dimension of the batch")
def squeezed_logits(shape: Shape, classes: int) -> nn.Module:
    class Squeezing(Net):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x).squeeze()

    return Squeezing(shape, classes)


@refused("two tensors in the same memory, first.weight and back.weight")
def tied_by_a_view(shape: Shape, classes: int) -> nn.Module:
    net = Net(shape, classes)
    net.back = nn.Linear(24, prod(shape))
    net.back.weight = nn.Parameter(net.first.weight.t())
    return net


@refused("has one value in memory for many of gain; call `.clone()`")
def expanded_parameter(shape: Shape, classes: int) -> nn.Module:
    net = Net(shape, classes)
    net.gain = nn.Parameter(torch.ones(1).expand(10))
    return net


@refused("a weight without values, 1.weight of 0x64")
def layer_without_outputs(shape: Shape, classes: int) -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), 0), nn.Linear(0, classes))


@refused("returns float64 per image in eval mode; 10 logits are needed; return them in float32")
def double_logits(shape: Shape, classes: int) -> nn.Module:
    class Double(Net):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x).double()

    return Double(shape, classes)


@refused("no weight that can be pruned")
def no_prunable_layer(shape: Shape, classes: int) -> nn.Module:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(prod(shape), classes))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight

    return Bare()


@refused("parameter of float64 values (0.weight); build it in dense float32")
def double(shape: Shape, classes: int) -> nn.Module:
    class Cast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).double()

    net = nn.Sequential(nn.Linear(prod(shape), classes)).double()
    net.register_forward_pre_hook(lambda module, inputs: inputs[0].flatten(1).double())
    return net


@refused("parameter of int64 values (index)")
def whole_numbers(shape: Shape, classes: int) -> nn.Module:
    net = Net(shape, classes)
    net.register_parameter("index", nn.Parameter(torch.arange(3), requires_grad=False))
    return net


@refused("no parameter to train")
def all_frozen(shape: Shape, classes: int) -> nn.Module:
    return Net(shape, classes).requires_grad_(False)


@refused("auxiliary outputs")
def two_outputs(shape: Shape, classes: int) -> nn.Module:
    class Two(Net):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), x

    return Two(shape, classes)


@refused("returns tuple per image in training mode; 10 logits are needed; return the logits alone")
def auxiliary_head_in_training(shape: Shape, classes: int) -> nn.Module:
    class Auxiliary(Net):
        def forward(self, x: Tensor) -> Any:
            logits = super().forward(x)
            return (logits, logits) if self.training else logits

    return Auxiliary(shape, classes)


@refused("returns (11,) per image in training mode")
def more_classes_in_training(shape: Shape, classes: int) -> nn.Module:
    class More(Net):
        def forward(self, x: Tensor) -> Any:
            logits = super().forward(x)
            return F.pad(logits, (0, 1)) if self.training else logits

    return More(shape, classes)


@refused("returns dict")
def dictionary(shape: Shape, classes: int) -> nn.Module:
    class Named(Net):
        def forward(self, x: Tensor) -> Any:
            return {"logits": super().forward(x)}

    return Named(shape, classes)


@refused("TorchScript")
def scripted(shape: Shape, classes: int) -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cast(nn.Module, torch.jit.script(perceptron(shape, classes)))


@refused("replaces count in a forward pass")
def replaced_buffer(shape: Shape, classes: int) -> nn.Module:
    class Counting(Net):
        count: Tensor

        def __init__(self) -> None:
            super().__init__(shape, classes)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Any:
            self.count = self.count + 1
            return super().forward(x)

    return Counting()


@refused("changes count in eval mode")
def counts_in_eval(shape: Shape, classes: int) -> nn.Module:
    class Counting(Net):
        count: Tensor

        def __init__(self) -> None:
            super().__init__(shape, classes)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Any:
            self.count += 1
            return super().forward(x)

    return Counting()


@refused("cannot be built: SystemExit: 3")
def exits_when_built(shape: Shape, classes: int) -> nn.Module:
    raise SystemExit(3)


@refused("cannot be trained: KeyboardInterrupt")
def interrupts_in_training(shape: Shape, classes: int) -> nn.Module:
    class Interrupting(Net):
        def forward(self, x: Tensor) -> Any:
            if self.training:
                raise KeyboardInterrupt
            return super().forward(x)

    return Interrupting(shape, classes)


@refused("is built differently from another seed (")
def random_structure(shape: Shape, classes: int) -> nn.Module:
    return Net(shape, classes, hidden=random.randrange(20, 10_000))


@refused("cannot be copied: TypeError: cannot pickle")
def cannot_be_copied(shape: Shape, classes: int) -> nn.Module:
    import threading

    net = Net(shape, classes)
    net.lock = threading.Lock()  # type: ignore[assignment]
    return net


@refused("batch norm has one value per channel: let it keep running statistics")
def batch_norm_without_statistics(shape: Shape, classes: int) -> nn.Module:
    return perceptron(shape, classes, nn.BatchNorm1d(24, track_running_stats=False))


@refused("it is a function, not a torch.nn.Module")
def function(shape: Shape, classes: int) -> nn.Module:
    return cast(nn.Module, lambda x: x)


@refused("parameter of sparse values")
def sparse(shape: Shape, classes: int) -> nn.Module:
    net = Net(shape, classes)
    net.register_parameter("table", nn.Parameter(torch.zeros(3, 3).to_sparse(), requires_grad=False))
    return net
