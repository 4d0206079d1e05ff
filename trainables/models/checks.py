"""What a network must be to be built, trained, pruned and measured, checked before the first trial."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from trainables.core.errors import SpecError
from trainables.models.base import Model
from trainables.store.state import duplicate, fill, named_tensors, prunable

Shape = tuple[int, int, int]

SMALL = 1_000_000
"""Below this number of weights, images are passed through a network to see that it takes them; above, shapes only."""


def title(spec: Model) -> str:
    """Return what messages call a network: its name in a family such as torchvision, or its kind."""
    return str(getattr(spec, "name", spec.kind))


def does_not_fit(spec: Model, shape: Shape, error: Exception) -> str:
    """Return the message for a network that raised an error on images of a shape."""
    size = "x".join(map(str, shape))
    return f"{title(spec)} cannot take images of {size} (channels, height, width): {str(error) or type(error).__name__}"


def check_module(spec: Model, net: object) -> None:
    """Refuse what a network's code returned if it is not a module.

    Raises:
        SpecError: it is something else.
    """
    if not isinstance(net, nn.Module):
        raise SpecError(
            f"the network {title(spec)} cannot be built: it is a {type(net).__name__}, not a torch.nn.Module"
        )


def check_shapes(spec: Model, net: nn.Module, shape: Shape, classes: int) -> None:
    """Run a copy of the network once in eval mode, for the shapes alone: on meta tensors, or where it fails on zeros.

    Networks that branch on values, or hold tensors that are neither parameters nor buffers, run on zeros only. So do
    small ones, which takes less time than torch's first pass over meta tensors.

    Raises:
        SpecError: it cannot take such images, or returns no logits for `classes` classes.
    """
    found: Any = None
    if not is_small(net):
        with suppress(Exception):
            weightless = {id(t): _meta(t) for t in named_tensors(net).values()}
            found = _run(duplicate(net, weightless), torch.empty((2, *shape), dtype=torch.float32, device="meta"))
    if found is None:
        copied = _copied(spec, net)
        try:
            found = _run(copied, torch.zeros((2, *shape), dtype=torch.float32))
        except Exception as error:
            raise SpecError(does_not_fit(spec, shape, error)) from error
    check_logits(spec, found, classes)


def is_small(net: nn.Module) -> bool:
    """Return whether a network has so few weights that a pass on two images takes milliseconds; all are dense."""
    tensors = named_tensors(net).values()
    return all(t.layout == torch.strided for t in tensors) and sum(t.numel() for t in tensors) < SMALL


def _copied(spec: Model, net: nn.Module) -> nn.Module:
    try:
        return duplicate(net)
    except Exception as error:
        raise SpecError(
            f"{title(spec)} cannot be copied: {type(error).__name__}: {error}; keep what cannot be out of the module"
        ) from error


def _meta(tensor: Tensor) -> Tensor:
    weightless = tensor.detach().to("meta")
    return nn.Parameter(weightless, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else weightless


def _run(net: nn.Module, images: Tensor) -> Any:
    with torch.no_grad():
        return net.eval()(images)


def check_logits(spec: Model, found: object, classes: int, mode: str = "", images: int = 2) -> None:
    """Refuse what a network returned for `images` images if it is not one logit per class and image.

    Raises:
        SpecError: it is something else; `mode` says when, once the parameters are known to be float32.
    """
    floating = isinstance(found, Tensor) and (found.dtype == torch.float32 if mode else found.is_floating_point())
    if isinstance(found, Tensor) and found.shape == (images, classes) and floating:
        return
    hint = ""
    if not isinstance(found, Tensor):
        shown, hint = type(found).__name__, "; return the logits alone, without auxiliary outputs"
    elif found.shape[:1] != (images,):
        shown = f"{tuple(found.shape)} for {images} image{'s' if images > 1 else ''}"
        hint = "; keep the dimension of the batch, whatever its size (no `squeeze()`, no fixed batch)"
        raise SpecError(f"{title(spec)} returns {shown}{mode}; {classes} logits per image are needed{hint}")
    elif floating:
        shown = str(tuple(found.shape[1:]))
    else:
        shown, hint = str(found.dtype).removeprefix("torch."), "; return them in float32 (`logits.float()`)"
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
    _check_memory(name, net)
    if not prunable(net):
        raise SpecError(
            f"{name} has no weight that can be pruned: those of Linear, Conv, attention and recurrent layers can, "
            "unless they are computed from others (weight and spectral norm, parametrizations); make its parameters "
            "weights of such layers"
        )
    if not any(p.requires_grad for p in net.parameters()):
        raise SpecError(f"{name} has no parameter to train: requires_grad is False for all of them")


def _check_memory(name: str, net: nn.Module) -> None:
    """Refuse tensors whose values cannot be set, or masked, without changing others.

    Raises:
        SpecError: names them, and says what to write.
    """
    spans: dict[int, list[tuple[Any, Any, str, bool]]] = {}
    for path, t in named_tensors(net).items():
        if any(step == 0 and size > 1 for step, size in zip(t.stride(), t.shape, strict=True)):
            raise SpecError(
                f"{name} has one value in memory for many of {bare(path)}; call `.clone()` on what is expanded"
            )
        if t.numel() and not t.is_meta:
            begin = t.storage_offset()
            end = begin + 1 + sum(step * (size - 1) for step, size in zip(t.stride(), t.shape, strict=True))
            shared = spans.setdefault(t.untyped_storage().data_ptr(), [])
            trained = isinstance(t, nn.Parameter)
            for start, stop, other, param in shared:
                if start < end and begin < stop and (trained or param):
                    raise SpecError(
                        f"{name} has two tensors in the same memory, {bare(other)} and {bare(path)}, of which only one "
                        "would be pruned; use one parameter under both names, or compute the other in forward "
                        "(`F.linear(x, self.a.weight.t())`)"
                    )
            shared.append((begin, end, path, trained))
        elif not t.numel() and path in prunable(net):
            shape = "x".join(map(str, t.shape))
            raise SpecError(f"{name} has a weight without values, {bare(path)} of {shape}; leave the layer out")


def bare(name: str) -> str:
    """Return a tensor's name without the prefix of the network behind its normalisation."""
    return name.removeprefix("net.")


def check_passes(spec: Model, net: nn.Module, images: Tensor, classes: int) -> None:
    """Run copies of a network in training and in eval mode, and refuse what would spoil every trial.

    Shapes: images (N, C, H, W) in [0, 1].
    Raises:
        SpecError: it returns no logits, changes the images, or replaces or changes tensors that it may not.
    """
    name = title(spec)
    with torch.no_grad():
        # The last batch may have one image.
        check_logits(spec, duplicate(net).eval()(images[:1].clone()), classes, " in eval mode", 1)
    for mode in ("training", "eval"):
        copied, given = duplicate(net).train(mode == "training"), images.clone()
        before = named_tensors(copied)
        values = {path: t.clone() for path, t in before.items()}
        check_logits(spec, copied(given), classes, f" in {mode} mode", len(images))
        if not torch.equal(given, images):
            raise SpecError(f"{name} changes its input in place; let its forward pass work on a copy (x.clone())")
        after = named_tensors(copied)
        if replaced := [path for path, t in after.items() if before.get(path) is not t]:
            raise SpecError(
                f"{name} replaces {bare(replaced[0])} in a forward pass, so its value would be lost; change it in "
                "place (copy_, add_), or keep what needs no saving in a plain attribute"
            )
        if mode == "eval" and (changed := [path for path, t in before.items() if not _same(t, values[path])]):
            raise SpecError(
                f"{name} changes {bare(changed[0])} in eval mode, so no measurement would be valid; change it only "
                "while self.training"
            )


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | ((one != one) & (other != other))).all())


def check_structure(spec: Model, net: nn.Module, other: nn.Module, images: Tensor) -> None:
    """Refuse a network that has other tensors when it is built from another seed, or more than its tensors.

    Shapes: images (N, C, H, W) in [0, 1].
    Raises:
        SpecError: says what differs.
    """
    shapes, others = ({path: t.shape for path, t in named_tensors(n).items()} for n in (net, other))
    if differing := [path for path in {**shapes, **others} if shapes.get(path) != others.get(path)]:
        raise SpecError(
            f"{title(spec)} is built differently from another seed ({bare(differing[0])}); make what is random in its "
            "structure a field of its spec"
        )
    with torch.no_grad():
        copied = fill(duplicate(other), named_tensors(net)).eval()
        found, again, rebuilt = (n(images.clone()) for n in (duplicate(net).eval(), duplicate(net).eval(), copied))
    # Logits that are random in eval mode are flagged in every measurement.
    if torch.equal(found, again) and not torch.equal(found, rebuilt):
        raise SpecError(
            f"{title(spec)} has other logits when it is built from another seed and gets the same weights, so a saved "
            "network would not be the one measured; register what is random or trained as parameters, buffers or "
            "modules (nn.ParameterList and nn.ModuleList, not a plain list or attribute), each under a name of its own"
        )
