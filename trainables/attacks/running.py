"""Running an attack: the framework's part of the contract, which holds whatever the attack does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.attacks.base import Attack, Keep, can_hunt
from trainables.core import heartbeat
from trainables.core.errors import SpecError
from trainables.core.unchanged import unchanged

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn


def run(
    attack: Attack,
    logits_fn: LogitsFn,
    x: Tensor,
    y: Tensor,
    *,
    eps: float | Tensor,
    generator: torch.Generator,
    keep: Keep = "worst",
    start: Tensor | None = None,
) -> Tensor:
    """Attack a batch and return adversarial inputs inside the ball and the box: the contract of every attack.

    With `keep="worst"` (for measurements) every input of batch size for which the attack calls `logits_fn` is recorded,
    and an image whose last input is classified correctly gets the last misclassified one before it, so the result is
    never weaker than the attack's own; NaN pixels become those of `x`. With `keep="last"` (for training) the attack's
    own result is returned, one forward pass cheaper.

    The result is a new tensor, detached, in `x`'s memory format; with an eps of 0 it equals `x`. `generator` is
    the only source of randomness and lives on `x`'s device.

    Shapes: x (N, ...) in [0, 1]; y (N,) class indices or (N, K) probabilities; eps a number or (N,).
    Units: eps in pixel units of [0, 1].

    Raises:
        SpecError: the attack returns something else than images like `x`, or changes its input.
    """
    import torch

    heartbeat.beat()
    x = x.detach()
    if not isinstance(eps, torch.Tensor) and eps == 0:
        return x.clone()
    recorder = _Recorder(logits_fn, x, y)
    with unchanged(f"the attack {attack.kind}", {"the images": x, "the labels": y}):
        found = attack.perturb(
            recorder if keep == "worst" else logits_fn, x, y, eps=eps, generator=generator, start=start
        )
    _check_like(attack, found, x)
    found = found.detach()
    if keep == "worst":
        found = recorder.worst(torch.where(found.isnan(), x, found))
    return _allowed(attack, found, x, eps)


def hunt(
    attack: Attack,
    logits_fn: LogitsFn,
    x: Tensor,
    y: Tensor,
    *,
    eps: float | Tensor,
    generator: torch.Generator,
    standing: Tensor,
) -> Tensor:
    """Attack, for a measurement, the images that are `standing`, and return the others as they are.

    A `Sparing` attack leaves alone each image that it has broken; of another one the result is as `run` says, with the
    standing images as the batch. The result is as in `run`.

    Shapes: x (N, ...) in [0, 1]; y (N,) class indices; eps a number or (N,); standing (N,) of truth values.
    Units: eps in pixel units of [0, 1].

    Raises:
        SpecError: as in `run`.
    """
    import torch

    heartbeat.beat()
    x = x.detach()
    rows = standing.nonzero()[:, 0]
    if not len(rows) or (not isinstance(eps, torch.Tensor) and eps == 0):
        return x.clone()
    if not can_hunt(attack):
        radius = eps[rows] if isinstance(eps, torch.Tensor) and eps.dim() else eps
        found = x.clone()
        found[rows] = run(attack, logits_fn, x[rows], y[rows], eps=radius, generator=generator)
        return found
    with unchanged(f"the attack {attack.kind}", {"the images": x, "the labels": y}):
        found = attack.hunt(logits_fn, x, y, eps=eps, generator=generator, standing=standing)
    _check_like(attack, found, x)
    found = found.detach()
    return _allowed(attack, torch.where(found.isnan(), x, found), x, eps)


def _allowed(attack: Attack, found: Tensor, x: Tensor, eps: float | Tensor) -> Tensor:
    import torch

    from trainables.attacks.geometry import region

    found = region(attack.norm, x, eps).project(found)
    # `project` follows the strides of `found`, which are the attack's choice.
    return found if found.stride() == x.stride() else torch.empty_like(x).copy_(found)


def _check_like(attack: Attack, found: object, x: Tensor) -> None:
    import torch

    if not isinstance(found, torch.Tensor):
        raise SpecError(f"the attack {attack.kind} returns a {type(found).__name__}, not a tensor of images")
    if (found.shape, found.device) != (x.shape, x.device) or not found.is_floating_point():
        shown, wanted = (f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)} on {t.device}" for t in (found, x))
        raise SpecError(f"the attack {attack.kind} returns {shown} for images {wanted}")


class _Recorder:
    """A `logits_fn` that records, per image, the last input it misclassified."""

    def __init__(self, logits_fn: LogitsFn, x: Tensor, y: Tensor) -> None:
        from trainables.attacks.standing import classes

        self.logits_fn = logits_fn
        self.labels = classes(y)
        self.inputs = x
        self.fooled = x.new_zeros(len(x)).bool()
        # A network that averages over `samples` passes is judged by their mean, not by each.
        if hasattr(logits_fn, "input_gradient") and not hasattr(logits_fn, "samples"):
            self.input_gradient = self._input_gradient

    def __call__(self, inputs: Tensor) -> Tensor:
        logits = self.logits_fn(inputs)
        self._record(inputs, logits)
        return logits

    def _input_gradient(self, inputs: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        from trainables.attacks.gradients import input_gradient

        def recorded(logits: Tensor) -> Tensor:
            self._record(inputs, logits)
            return slope(logits)

        return input_gradient(self.logits_fn, inputs, recorded)

    def _record(self, inputs: Tensor, logits: Tensor) -> None:
        from trainables.attacks.geometry import choose

        if inputs.shape == self.inputs.shape:
            # An image has no pixels that are NaN. A branch on the answers would make a GPU wait at every step.
            wrong = self._wrong(logits) & ~inputs.detach().isnan().flatten(1).any(dim=1)
            self.inputs = choose(wrong, inputs.detach(), self.inputs)
            self.fooled = self.fooled | wrong

    def worst(self, found: Tensor) -> Tensor:
        import torch

        from trainables.attacks.geometry import choose

        with torch.no_grad():
            missed = ~self._wrong(self.logits_fn(found)) & self.fooled
        return choose(missed, self.inputs, found)

    def _wrong(self, logits: Tensor) -> Tensor:
        from trainables.attacks.verdicts import wrong

        return wrong(logits.detach(), self.labels)
