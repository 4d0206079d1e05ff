"""A network without its dead filters: smaller dense layers that compute the same logits.

A filter is dead if its weights are all 0, and its bias and batch norm are; so is every input that reads only dead
filters.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from trainables.core.errors import SpecError
from trainables.models.graph.channels import Wiring
from trainables.models.graph.shrinking import Shrinking, layers
from trainables.models.nets.spread import Spread
from trainables.store.state import State, duplicate

__all__ = ["Spread", "living", "shrunk", "without"]


def shrunk(model: nn.Module, state: State, shape: tuple[int, int, int]) -> nn.Module:
    """Return the network of `model` with the tensors of `state`, without its dead filters, in eval mode on the CPU.

    Its logits are those of the full network, up to rounding. Both arguments stay unchanged.

    Shapes: images (N, *shape) in [0, 1] to logits (N, classes).
    Raises:
        SpecError: the network cannot be traced.
    """
    whole = state.to("cpu").into(duplicate(model).cpu())
    return without(whole, living(whole, shape), shape)


def living(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """Return which outputs of each layer may differ from 0, by the layer's weight: at least one of each.

    Layers whose channels are not understood are left out.

    Shapes: images (N, *shape); the result (outputs of the layer,), boolean.
    Raises:
        SpecError: the network cannot be traced.
    """
    wiring = _wired(model, shape)
    return {name: _outputs(name.removesuffix(".weight"), wiring, model) for name in layers(wiring)}


def without(model: nn.Module, alive: Mapping[str, Tensor], shape: tuple[int, int, int]) -> nn.Module:
    """Return a network without the outputs that are not `alive`, as `living` returns them, in eval mode on the CPU.

    Raises:
        SpecError: the network cannot be traced, or has other layers.
    """
    wiring = _wired(model, shape)
    if {name: len(outputs) for name, outputs in alive.items()} != layers(wiring):
        raise SpecError("the smaller layers are not those of the network")
    return Shrinking(wiring, alive).net


def _wired(model: nn.Module, shape: tuple[int, int, int]) -> Wiring:
    wiring = Wiring(model, shape)
    if wiring.net is None:
        raise SpecError("the network cannot be traced by torch.fx, so its dead filters cannot be removed")
    wiring.net.requires_grad_(False)
    return wiring


def _outputs(name: str, wiring: Wiring, model: nn.Module) -> Tensor:
    """Return which outputs of a layer may differ from 0, behind its batch norm if it has one; at least one."""
    params = {key: p.detach().cpu() for key, p in model.named_parameters(remove_duplicate=False)}
    buffers = {key: b.cpu() for key, b in model.named_buffers()}
    live = params[f"{name}.weight"].flatten(1).any(dim=1)
    norm = wiring.norms.get(f"{name}.weight")
    if (bias := params.get(f"{name}.bias")) is not None:
        live = live | (bias != 0)
    if norm is not None:
        # Of an input of 0 a batch norm makes its shift less the scaled mean.
        scale, shift, mean = params[f"{norm}.weight"], params[f"{norm}.bias"], buffers[f"{norm}.running_mean"]
        live = live | (shift != 0) | ((mean != 0) & (scale != 0))
    if not bool(live.any()):
        live = live.clone()
        live[0] = True
    return live
