"""Attacks: one batched function per paper; `run` projects their results to the ball and the box."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.attacks.autoattack import AutoAttack
from trainables.attacks.base import Attack, Keep
from trainables.attacks.fab import Fab
from trainables.attacks.fmn import Fmn
from trainables.attacks.minimal import CarliniWagner, DeepFool
from trainables.attacks.noise import Noise
from trainables.attacks.pgd import Fgsm, Pgd, RFgsm
from trainables.attacks.square import Square
from trainables.core import heartbeat
from trainables.core.errors import SpecError
from trainables.core.registry import Registry
from trainables.core.unchanged import unchanged

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn

ATTACKS: Registry[Attack] = Registry(
    "attack",
    Attack,
    {
        "pgd": Pgd,
        "fgsm": Fgsm,
        "rfgsm": RFgsm,
        "deepfool": DeepFool,
        "cw": CarliniWagner,
        "square": Square,
        "fab": Fab,
        "fmn": Fmn,
        "noise": Noise,
        "autoattack": AutoAttack,
    },
)


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

    from trainables.attacks.geometry import region

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
        self.logits_fn = logits_fn
        self.labels = y.argmax(dim=1) if y.is_floating_point() else y
        self.inputs = x
        self.fooled = x.new_zeros(len(x)).bool()

    def __call__(self, inputs: Tensor) -> Tensor:
        logits = self.logits_fn(inputs)
        if inputs.shape == self.inputs.shape:
            wrong = self._wrong(logits)
            self.inputs = self._choose(wrong, inputs.detach(), self.inputs)
            self.fooled = self.fooled | wrong
        return logits

    def worst(self, found: Tensor) -> Tensor:
        import torch

        with torch.no_grad():
            missed = ~self._wrong(self.logits_fn(found)) & self.fooled
        return self._choose(missed, self.inputs, found)

    def _wrong(self, logits: Tensor) -> Tensor:
        return logits.detach().argmax(dim=1) != self.labels

    @staticmethod
    def _choose(which: Tensor, these: Tensor, those: Tensor) -> Tensor:
        import torch

        return torch.where(which.reshape(-1, *[1] * (these.dim() - 1)), these, those)
