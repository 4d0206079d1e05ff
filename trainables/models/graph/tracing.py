"""Networks traced by torch.fx, and questions about their graphs."""

from __future__ import annotations

from torch import fx, nn

from trainables.models.nets.resnet import PadShortcut
from trainables.models.nets.spread import Spread
from trainables.models.normalised import Normalise

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (Normalise, PadShortcut, Spread)) or super().is_leaf_module(m, module_qualified_name)


def trace(net: nn.Module) -> fx.GraphModule | None:
    """Trace a network, whose modules the result shares; None where torch.fx cannot."""
    try:
        return fx.GraphModule(net, _Tracer().trace(net))
    except Exception:
        # Tracing runs the forward, perhaps a user's, on stand-ins for tensors: it may raise anything.
        return None


class Graph:
    """The modules that a traced network calls, as they were before any change to it."""

    def __init__(self, net: fx.GraphModule) -> None:
        self._modules = dict(net.named_modules())
        called = [str(node.target) for node in net.graph.nodes if node.op == "call_module"]
        self._calls = {name: called.count(name) for name in called}

    def module(self, node: object) -> nn.Module | None:
        """Return the module that a node calls, if it calls one."""
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        module: nn.Module = self._modules[str(node.target)]
        return module

    def called_once(self, node: fx.Node) -> bool:
        """Return whether the node's module is called by this node alone."""
        return self._calls.get(str(node.target)) == 1

    def read_once(self, node: object) -> bool:
        """Return whether one other node alone reads the result of this one, the only call of its module."""
        return isinstance(node, fx.Node) and len(node.users) == 1 and self.called_once(node)

    def batch_norm_after(self, layer: fx.Node) -> fx.Node | None:
        """Return the batch norm that alone reads a layer and reads nothing else, if it has running statistics."""
        if not self.read_once(layer):
            return None
        (user,) = layer.users
        module = self.module(user)
        if not isinstance(module, BATCH_NORMS) or module.running_mean is None:
            return None
        return user if self.called_once(user) else None
