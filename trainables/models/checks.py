"""What a network must be to be built, trained, pruned and measured, checked before the first trial."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainables.core.errors import SpecError
from trainables.models.base import Model
from trainables.store.state import duplicate, named_tensors, prunable

Shape = tuple[int, int, int]


def title(spec: Model) -> str:
    """Return what messages call a network: its name in a family such as torchvision, or its kind."""
    return str(getattr(spec, "name", spec.kind))


def does_not_fit(spec: Model, shape: Shape, error: Exception) -> str:
    """Return the message for a network that raised an error on images of a shape."""
    size = "x".join(map(str, shape))
    return f"{title(spec)} cannot take images of {size} (channels, height, width): {error or type(error).__name__}"


def check_module(spec: Model, net: object) -> None:
    """Refuse what a network's code returned if it is no module.

    Raises:
        SpecError: it is something else.
    """
    if not isinstance(net, nn.Module):
        raise SpecError(
            f"the network {title(spec)} cannot be built: it is a {type(net).__name__}, not a torch.nn.Module"
        )


def check_shapes(spec: Model, net: nn.Module, shape: Shape, classes: int) -> None:
    """Run a copy of the network once in eval mode, for the shapes alone: on meta tensors, or where it fails on zeros.

    Networks that branch on values, or hold tensors that are neither parameters nor buffers, run on zeros only.

    Raises:
        SpecError: it cannot take such images, or returns no logits for `classes` classes.
    """
    try:
        weightless = {id(t): _meta(t) for t in named_tensors(net).values()}
        found = _run(duplicate(net, weightless), torch.empty((2, *shape), device="meta"))
    except Exception:
        try:
            found = _run(duplicate(net), torch.zeros((2, *shape)))
        except Exception as error:
            raise SpecError(does_not_fit(spec, shape, error)) from error
    check_logits(spec, found, classes)


def _meta(tensor: Tensor) -> Tensor:
    weightless = tensor.detach().to("meta")
    return nn.Parameter(weightless, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else weightless


def _run(net: nn.Module, images: Tensor) -> Any:
    with torch.no_grad():
        return net.eval()(images)


def check_logits(spec: Model, found: object, classes: int, mode: str = "", images: int = 2) -> None:
    """Refuse what a network returned for `images` images if it is not one logit per class and image.

    Raises:
        SpecError: it is something else; `mode` says when.
    """
    if isinstance(found, Tensor) and found.shape == (images, classes) and found.is_floating_point():
        return
    if not isinstance(found, Tensor):
        shown = type(found).__name__
    elif found.is_floating_point():
        shown = str(tuple(found.shape[1:]))
    else:
        shown = str(found.dtype).removeprefix("torch.")
    hint = "" if isinstance(found, Tensor) else "; return the logits alone, without auxiliary outputs"
    raise SpecError(f"{title(spec)} returns {shown} per image{mode}; {classes} logits are needed{hint}")


def check_trainable(spec: Model, net: nn.Module) -> None:
    """Refuse a network whose parameters cannot be trained or pruned.

    Raises:
        SpecError: with what to change.
    """
    name = title(spec)
    if script := next((path for path, m in net.named_modules() if isinstance(m, torch.jit.ScriptModule)), None):
        raise SpecError(
            f"{name} has a TorchScript module ({bare(script)}), which cannot be pruned; return the module itself"
        )
    for path, p in net.named_parameters():
        if p.dtype != torch.float32 or p.layout != torch.strided:
            kind = str(p.dtype).removeprefix("torch.") if p.layout == torch.strided else "sparse"
            raise SpecError(
                f"{name} has a parameter of {kind} values ({bare(path)}); build it in dense float32, or make it a "
                "buffer if it is not trained (`recipe.train.precision` says in what precision is trained)"
            )
    if not prunable(net):
        raise SpecError(
            f"{name} has no weight that can be pruned: those of Linear and Conv layers can, unless they are computed "
            "from others (weight and spectral norm, parametrizations); make its parameters weights of such layers"
        )
    if not any(p.requires_grad for p in net.parameters()):
        raise SpecError(f"{name} has no parameter to train: requires_grad is False for all of them")


def bare(name: str) -> str:
    """Return a tensor's name without the prefix of the network behind its normalisation."""
    return name.removeprefix("net.")
