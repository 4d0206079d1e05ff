"""How a network is trained, as data: optimiser, learning-rate schedule, loss, attack, and the rest.

The learning rate and the attack radius are pure functions of the epoch (a real number that
advances with every step), so a resumed run has nothing to restore.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.core.registry import Registry
from trainables.core.spec import Eps, Spec, check_radius, located
from trainables.regularisers import Regularisers


class Optimiser(Spec):
    """Base of every optimiser."""

    kind: str
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)


class Sgd(Optimiser):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=5e-4, ge=0)

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Optimiser):
    """Adam; weight decay is added to the gradient."""

    kind: Literal["adam"] = "adam"
    lr: float = Field(default=1e-3, gt=0)


class AdamW(Optimiser):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)


OPTIMISERS: Registry[Optimiser] = Registry("optimiser", {"sgd": Sgd, "adam": Adam, "adamw": AdamW})


class Schedule(Spec):
    """Base of every learning-rate schedule; `warmup` epochs rise linearly from 0."""

    kind: str
    warmup: float = Field(default=0.0, ge=0)

    def factor(self, epoch: float, epochs: int) -> float:
        """Return what the learning rate is multiplied with, `epoch` epochs into a training of `epochs`."""
        if epoch < self.warmup:
            return epoch / self.warmup
        return self._after_warmup(epoch, epochs)

    def _after_warmup(self, epoch: float, epochs: int) -> float:
        raise NotImplementedError


class Constant(Schedule):
    """No change."""

    kind: Literal["constant"] = "constant"

    def _after_warmup(self, epoch: float, epochs: int) -> float:
        return 1.0


class Cosine(Schedule):
    """Half a cosine from 1 at the end of the warm-up to `final` at the end. Source: arXiv:1608.03983 §3."""

    kind: Literal["cosine"] = "cosine"
    final: float = Field(default=0.0, ge=0, le=1)

    def _after_warmup(self, epoch: float, epochs: int) -> float:
        share = min(1.0, (epoch - self.warmup) / max(epochs - self.warmup, 1e-12))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2


class Step(Schedule):
    """Multiplied with `gamma` at each of `at`, shares of the training; or of every `cycle` epochs, anew in each."""

    kind: Literal["step"] = "step"
    at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)
    gamma: float = Field(default=0.1, gt=0, le=1)
    cycle: int | None = Field(default=None, gt=0)

    def _after_warmup(self, epoch: float, epochs: int) -> float:
        if self.cycle is not None:
            epoch, epochs = epoch % self.cycle, self.cycle
        # Counted in epochs and compared with a hair's breadth: 0.3 * 10 is not 3.
        return self.gamma ** sum(epoch + 1e-9 >= share * epochs for share in self.at)


class OneCycle(Schedule):
    """Linear from `start` up to 1 at `peak`, a share of the training, and linear down to 0.

    `warmup` must stay 0: the rise is the warm-up. Source: arXiv:1708.07120, linear form.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    warmup: float = Field(default=0.0, ge=0, le=0)
    peak: float = Field(default=0.3, gt=0, lt=1)
    start: float = Field(default=0.04, gt=0, le=1)

    def _after_warmup(self, epoch: float, epochs: int) -> float:
        share = min(1.0, epoch / epochs)
        if share < self.peak:
            return self.start + (1 - self.start) * share / self.peak
        return (1 - share) / (1 - self.peak)


SCHEDULES: Registry[Schedule] = Registry(
    "schedule", {"constant": Constant, "cosine": Cosine, "step": Step, "one_cycle": OneCycle}
)


class Loss(Spec):
    """Base of every training loss; `trainables.losses.base` computes them."""

    kind: str


class Natural(Loss):
    """Cross-entropy on clean images: no adversarial training."""

    kind: Literal["natural"] = "natural"


class Madry(Loss):
    """Cross-entropy on adversarial images alone. Source: Madry et al. 2018, arXiv:1706.06083 §2."""

    kind: Literal["madry"] = "madry"


class Mix(Loss):
    """`weight` of clean and 1 - `weight` of adversarial cross-entropy.

    Source: Goodfellow et al. 2015, arXiv:1412.6572 §6.
    """

    kind: Literal["mix"] = "mix"
    weight: float = Field(default=0.5, ge=0, le=1)


class Trades(Loss):
    """Clean cross-entropy plus `beta` times KL(clean || adversarial); the attack climbs the KL.

    Source: Zhang et al. 2019, arXiv:1901.08573 §4, eq. 5.
    """

    kind: Literal["trades"] = "trades"
    beta: float = Field(default=6.0, ge=0)


class Mart(Loss):
    """Boosted cross-entropy on adversarial images plus `beta` times KL(clean || adversarial), more where it matters.

    The divergence of an image is weighed by one less the clean probability of its class; boosted means less the
    logarithm of one less the largest adversarial probability of another class. `beta` is what the pruners' codes have.
    Source: Wang et al. 2020, "Improving adversarial robustness requires revisiting misclassified examples", ICLR, §3.
    """

    kind: Literal["mart"] = "mart"
    beta: float = Field(default=5.0, ge=0)


LOSSES: Registry[Loss] = Registry(
    "loss", {"natural": Natural, "madry": Madry, "mix": Mix, "trades": Trades, "mart": Mart}
)

Precision = Literal["auto", "fp32", "bf16"]
AttackLabels = Literal["true", "predicted"]


class Training(Spec):
    """Everything that a training step depends on, but for the number of epochs.

    `eps` is the training radius, ramped up linearly over `eps_warmup` epochs. `ema` above 0 averages
    weights with that decay per step, and the average is what the phase hands on. `crop` pads so
    many pixels and crops at random; `flip` mirrors half of the images. `precision` `auto` takes bf16 where the
    processor has units for it; a study resolves it once, before its first trial.

    The first `natural_epochs` train on clean images with the cross-entropy, whatever the loss. `attack_labels` says
    which labels the attack climbs away from: `true` ones, or those `predicted` on the clean image; TRADES' attack needs
    neither. With `validate_on` the training loss of so many validation images is recorded,
    in eval mode, after every epoch, or with `validate_every` after steps 1, 1 + n, 1 + 2n, ... of each; nothing is
    decided by it. `activation_l1` weighs the l1 norm of each image's activations in the loss.

    `awp` above 0 takes each step's gradient where the weights are worst within that share of their norm (adversarial
    weight perturbation, `trainables.engine.awp`), after `awp_warmup` epochs. `select` holds back the last so many
    training images, each class in proportion, and hands on the weights after the epoch with the highest accuracy on
    them under `select_attack` within the full `eps`.
    """

    batch: int = Field(default=128, gt=0)
    optimiser: Annotated[Optimiser, OPTIMISERS] = Sgd()
    schedule: Annotated[Schedule, SCHEDULES] = Cosine()
    loss: Annotated[Loss, LOSSES] = Madry()
    attack: Annotated[Attack, ATTACKS] = Pgd(steps=7)
    eps: Eps = Eps("8/255")
    eps_warmup: float = Field(default=0.0, ge=0)
    natural_epochs: int = Field(default=0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float = Field(default=0.0, ge=0, lt=1)
    regularisers: Regularisers = {}
    crop: int = Field(default=0, ge=0)
    flip: bool = False
    precision: Precision = "auto"
    attack_labels: AttackLabels = "true"
    validate_on: int = Field(default=0, ge=0)
    validate_every: int | None = Field(default=None, gt=0)
    awp: float = Field(default=0.0, ge=0)
    awp_warmup: float = Field(default=0.0, ge=0)
    select: int = Field(default=0, ge=0)
    select_attack: Annotated[Attack, ATTACKS] = Pgd(steps=10)
    activation_l1: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _radius_fits_norm(self) -> Self:
        check_radius(self.eps, self.attack.norm)
        if self.select and self.select_attack.norm != self.attack.norm:
            kind, norm = self.select_attack.kind, self.select_attack.norm
            message = f"{kind} goes by {norm}, but the radius of the training is in {self.attack.norm}"
            raise located(message, "select_attack", "norm", value=norm)
        return self

    def loss_at(self, epoch: int) -> Loss:
        """Return the loss of the epoch after `epoch` completed ones."""
        return Natural() if epoch < self.natural_epochs else self.loss

    def eps_at(self, epoch: float) -> float:
        """Return the training radius, `epoch` epochs into a training."""
        return float(self.eps) * (min(1.0, epoch / self.eps_warmup) if self.eps_warmup else 1.0)

    def awp_at(self, epoch: float) -> float:
        """Return how far weights are perturbed, as a share of their norm, `epoch` epochs into a training."""
        return self.awp if epoch >= self.awp_warmup else 0.0
