"""Optimiser steps that hold masks exactly, and the running average of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.method.training import Training
from trainables.optimisers.base import Params
from trainables.reparametrisations.base import EffectiveWeights
from trainables.store.state import State, Tensors, named_buffers, scales

Whole = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Makes tensors of a smaller network those of the full one, differentiable."""


def slots(optimiser: torch.optim.Optimizer, params: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors of an optimiser's state, by `slot:name`."""
    return {
        f"{slot}:{name}": value
        for name, p in params.items()
        for slot, value in optimiser.state.get(p, {}).items()
        if isinstance(value, Tensor)
    }


@torch.no_grad()
def load_slots(optimiser: torch.optim.Optimizer, params: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """Restore what `slots` returned."""
    for path, value in kept.items():
        slot, name = path.split(":", 1)
        p = params[name]
        # Like the parameter, in memory format too, or the next step may round differently.
        like = torch.empty_like(p) if value.shape == p.shape else torch.empty_like(value, device=p.device)
        optimiser.state[p][slot] = like.copy_(value)


class Optimisation:
    """The optimiser of one training: the only place where weights change.

    `masks` are held exactly: gradients of pruned weights are zeroed before the step and the weights
    after it. With `ema` above 0 a running average of weights and buffers follows; its decay grows with
    the steps taken, min(ema, (1 + t) / (10 + t)), so that the start is forgotten in a short training as well. The
    trained tensors of effective `weights` are trained, averaged and saved with the network's own parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        masks: Mapping[str, Tensor],
        training: Training,
        weights: EffectiveWeights | None = None,
        *,
        penalty_factor: float = 1.0,
        trains_pruned: bool = False,
        whole: Whole | None = None,
        rate_as_tensor: bool = False,
    ) -> None:
        """Start from the model's weights, which are masked already and on their device.

        The weights of all penalties are multiplied by `penalty_factor`. With `trains_pruned` weights have values of
        their own beneath the masks (`trainables.mask_updates.base.MaskUpdate`). Penalties see what `whole` makes of the
        tensors of a smaller network. With `rate_as_tensor` a fused optimiser reads the learning rate on its device, so
        that a recorded step can be given another.
        """
        self._whole = whole
        self._model = model
        self._params = dict(model.named_parameters())
        self._buffers = dict(named_buffers(model))
        self._weights = weights
        self._extras: dict[str, nn.Parameter] = {}
        self._trained = self._params
        groups: Params = self._params.values()
        if weights is not None:
            self._extras = weights.extras
            own = {name: p for name, p in self._params.items() if name not in weights.frozen}
            self._trained = {**own, **weights.extras}
            decayed = [p for name, p in self._trained.items() if name not in weights.undecayed]
            spared = [p for name, p in self._trained.items() if name in weights.undecayed]
            apart: list[dict[str, Any]] = [{"params": spared, "weight_decay": 0.0}] if spared else []
            groups = [{"params": decayed}, *apart]
        self._optimiser = training.optimiser.build(groups)
        self._lr = 0.0
        self._rate = self._rate_tensor() if rate_as_tensor else None
        self._penalised = {
            "weights": {name: self._params[name] for name, mask in masks.items() if mask.dim() > 1},
            "scales": {name: self._params[name] for name in scales(model)},
        }
        self._penalties = [r for r in training.regularisers.values() if r.weight > 0 and self._penalised[r.of]]
        self._penalty_factor = penalty_factor
        weights_by_name = self._penalised["weights"].items() if trains_pruned else ()
        self._beneath: Tensors = {name: p.detach().clone() for name, p in weights_by_name}
        self._hold(masks)
        self.gradients: Tensors = {}
        self._decay = training.ema
        self._average: Tensors = {}
        if training.ema:
            self._average = {name: t.detach().clone() for name, t in self._current().items()}

    @property
    def trained(self) -> Mapping[str, nn.Parameter]:
        """All that a step changes, by name: parameters, and those of effective weights."""
        return self._trained

    @property
    def recordable(self) -> bool:
        """Whether `descend`, recorded once, does the same as if it were called again after `set_rate`."""
        follows = self._penalty_factor > 1 and self._weights is not None and self._weights.followed(1.0) is not None
        return self._rate is not None and not follows

    def _rate_tensor(self) -> Tensor | None:
        groups = self._optimiser.param_groups
        if not all(group.get("fused") for group in groups):
            return None
        device = next(iter(self._params.values())).device
        # What torch's kernels read: float32 on a GPU, and on a CPU what keeps the number.
        rate = torch.zeros((), dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
        for group in groups:
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True
        return rate

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the next step."""
        self._lr = lr
        if self._rate is not None:
            self._rate.fill_(lr)
            return
        for group in self._optimiser.param_groups:
            group["lr"] = lr

    def descend(self, loss: Tensor, *, back: Callable[[], None] | None = None, keep_gradients: bool = False) -> None:
        """Take the gradient of `loss` plus the penalties, and a step of the optimiser.

        `back` undoes a perturbation of the weights (`trainables.engine.awp`) once the gradients are known. With
        `keep_gradients` those of all prunable weights, pruned ones too, are copied to `gradients`.
        """
        loss = self._with_penalties(loss)
        for p in self._trained.values():  # As `zero_grad` does, which on a small network takes as long as its backward.
            p.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        if back is not None:
            back()
        weights = self._penalised["weights"] if keep_gradients else {}
        self.gradients = {name: p.grad.clone() for name, p in weights.items() if p.grad is not None}
        for p, keep in zip(self._pruned, self._keep, strict=True):
            if p.grad is not None and not self._beneath:
                p.grad.mul_(keep)
        self._write(self._beneath)
        self._optimiser.step()
        with torch.no_grad():
            for name, own in self._beneath.items():
                own.copy_(self._params[name])
            for p, keep in zip(self._pruned, self._keep, strict=True):
                p.mul_(keep)

    def _with_penalties(self, loss: Tensor) -> Tensor:
        if self._penalties:
            penalised: dict[str, Mapping[str, Tensor]] = {**self._penalised}
            if self._weights is not None:
                penalised["weights"] = self._weights.penalised(penalised["weights"], self._extras)
            if self._whole is not None:
                penalised = {of: self._whole(tensors) for of, tensors in penalised.items()}
            for penalty in self._penalties:
                loss = loss + self._penalty_factor * penalty.weight * penalty.penalty(penalised[penalty.of])
        if self._weights is not None and (extra := self._weights.penalty()) is not None:
            loss = loss + self._factor() * extra
        return loss

    def follow(self, number: int) -> None:
        """Let the average follow, if there is one, after step `number`, counted from 1."""
        if self._average:
            self._follow(min(self._decay, (1 + number) / (10 + number)))

    def _factor(self) -> float | Tensor:
        """Return what the effective weights' penalty is multiplied by: no more than they can follow, at least 1."""
        if self._penalty_factor <= 1 or self._weights is None:
            return self._penalty_factor
        group = self._optimiser.param_groups[0]
        momentum = group.get("momentum", group.get("betas", (0.0,))[0])
        most = self._weights.followed(self._lr / (1 - momentum) ** 2)
        return self._penalty_factor if most is None else most.clamp(1.0, self._penalty_factor)

    @torch.no_grad()
    def change_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Hold other masks from now on; what they prune becomes 0, also in the average and the optimiser's state.

        That state stays where pruned weights are trained.
        """
        self._hold(masks)
        self._write(self._beneath)
        for p, keep in zip(self._pruned, self._keep, strict=True):
            p.mul_(keep)
            for value in () if self._beneath else self._optimiser.state.get(p, {}).values():
                if isinstance(value, Tensor) and value.shape == p.shape:
                    value.mul_(keep)
        for name in self._average.keys() & masks.keys():
            self._average[name].mul_(masks[name].to(self._average[name].device))

    def values(self) -> Mapping[str, Tensor]:
        """Return the network's parameters, those beneath the masks where there are any."""
        return {**self._params, **self._beneath}

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._params[name].copy_(value)

    def _hold(self, masks: Mapping[str, Tensor]) -> None:
        pruned = {name: mask for name, mask in masks.items() if not bool(mask.all())}
        self._pruned = [self._params[name] for name in pruned]
        self._keep = [torch.empty_like(self._params[name]).copy_(mask) for name, mask in pruned.items()]

    def _current(self) -> Tensors:
        return {**self._params, **self._buffers, **self._extras}

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        current = self._current()
        floating = [name for name, t in self._average.items() if t.is_floating_point()]
        torch._foreach_lerp_([self._average[n] for n in floating], [current[n].detach() for n in floating], 1 - decay)
        for name in self._average.keys() - set(floating):
            self._average[name].copy_(current[name])

    def state(self, masks: Tensors) -> State:
        """Copy the training's result: the average where there is one, with pruned weights exactly 0."""
        source = self._average or self._current()
        params = {name: source[name].detach().clone() for name in self._params}
        buffers = {name: source[name].detach().clone() for name in self._buffers}
        state = State(params, buffers, masks).masked()
        return (
            state if self._weights is None else self._weights.fold(state, {name: source[name] for name in self._extras})
        )

    def checkpoint(self) -> dict[str, Tensors]:
        """Copy all tensors the next step depends on."""
        groups: dict[str, Mapping[str, Tensor]] = {
            "params": self._params,
            "buffers": self._buffers,
            "optimiser": slots(self._optimiser, self._trained),
            "average": self._average,
            "extras": self._extras,
            "kept": self._weights.kept if self._weights else {},
            "beneath": self._beneath,
        }
        return {group: {name: t.detach().clone() for name, t in tensors.items()} for group, tensors in groups.items()}

    @torch.no_grad()
    def load(self, checkpoint: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Resume from what `checkpoint` returned."""
        current: list[tuple[str, Mapping[str, Tensor]]] = [
            ("params", self._params),
            ("buffers", self._buffers),
            ("average", self._average),
            ("extras", self._extras),
            ("kept", self._weights.kept if self._weights else {}),
            ("beneath", self._beneath),
        ]
        for group, tensors in current:
            for name, tensor in tensors.items():
                tensor.copy_(checkpoint[group][name])
        load_slots(self._optimiser, self._trained, checkpoint.get("optimiser", {}))
