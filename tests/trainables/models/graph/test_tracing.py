"""Traces of networks, and which batch norm alone reads which layer."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from trainables.models.graph.tracing import Graph, trace
from trainables.models.nets.resnet import CifarResNet, PadShortcut
from trainables.models.normalised import Normalise, Normalised


def traced(net: nn.Module) -> tuple[fx.GraphModule, Graph]:
    found = trace(net.eval())
    assert found is not None
    return found, Graph(found)


def norms(net: nn.Module) -> dict[str, str]:
    """Return the batch norm after each convolution and linear layer that has one, by name."""
    found, graph = traced(net)
    after = {}
    for node in found.graph.nodes:
        if isinstance(graph.module(node), (nn.Conv2d, nn.Linear)) and (bn := graph.batch_norm_after(node)) is not None:
            after[str(node.target)] = str(bn.target)
    return after


class Net(nn.Module):
    """Layers whose outputs a batch norm reads alone, with others, twice, or without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.alone, self.shared, self.again = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.batch = nn.Conv2d(3, 3, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.bn4 = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.alone(x))
        shared = self.shared(x)
        x = self.bn2(shared) + shared
        x = self.bn3(self.again(self.bn3(self.again(x))))
        return self.bn4(self.batch(x))  # type: ignore[no-any-return]


def test_a_batch_norm_belongs_to_the_layer_that_it_alone_reads() -> None:
    assert norms(Net()) == {"alone": "bn1"}


def test_every_convolution_of_a_residual_network_has_its_batch_norm() -> None:
    found = norms(CifarResNet(3, 10, blocks=1))
    assert found == {
        "conv1": "bn1",
        **{f"layer{n}.0.conv{i}": f"layer{n}.0.bn{i}" for n in (1, 2, 3) for i in (1, 2)},
    }


def test_normalisation_and_padded_shortcuts_are_single_nodes_and_the_trace_computes_the_same() -> None:
    net = Normalised(CifarResNet(3, 10, blocks=1), Normalise((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))).eval()
    found, graph = traced(net)
    modules = [graph.module(node) for node in found.graph.nodes]
    assert sum(isinstance(module, Normalise) for module in modules) == 1
    assert sum(isinstance(module, PadShortcut) for module in modules) == 2
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(found(x), net(x))


def test_a_module_that_is_called_twice_is_not_read_once() -> None:
    found, graph = traced(Net())
    nodes = {str(node.target): node for node in found.graph.nodes if node.op == "call_module"}
    assert graph.read_once(nodes["alone"])
    assert not graph.read_once(nodes["shared"]), "two nodes read it"
    assert not graph.read_once(nodes["again"])
    assert not graph.called_once(nodes["bn3"])
    assert graph.module("no node") is None
    assert not graph.read_once(None)


def test_control_flow_on_values_cannot_be_traced() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if bool(x.sum() > 0) else -x

    assert trace(Branching()) is None
