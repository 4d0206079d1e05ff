"""How a network is trained, as data: optimiser, learning-rate schedule, loss, attack, and the rest.

The learning rate and the attack radius are pure functions of the epoch (a real number that
advances with every step), so a resumed run has nothing to restore.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack, AttackLabels
from trainables.attacks.pgd import Pgd
from trainables.core.precision import Precision
from trainables.core.spec import Eps, Spec, check_radius, located
from trainables.losses import LOSSES
from trainables.losses.base import Loss
from trainables.losses.cross_entropy import Madry, Natural
from trainables.method.schedules import SCHEDULES, Cosine, Schedule
from trainables.optimisers import OPTIMISERS
from trainables.optimisers.base import Optimiser
from trainables.optimisers.sgd import Sgd
from trainables.regularisers import Regularisers


class Training(Spec):
    """Everything that a training step depends on, except the number of epochs."""

    batch: int = Field(default=128, gt=0, description="images in a step")
    optimiser: Annotated[Optimiser, OPTIMISERS] = Field(default=Sgd(), description="the optimiser")
    schedule: Annotated[Schedule, SCHEDULES] = Field(default=Cosine(), description="the learning-rate schedule")
    loss: Annotated[Loss, LOSSES] = Field(default=Madry(), description="the training loss")
    attack: Annotated[Attack, ATTACKS] = Field(default=Pgd(steps=7), description="the attack of the training")
    eps: Eps = Field(default=Eps("8/255"), description="the attack's radius, in pixel units of [0, 1]")
    eps_warmup: float = Field(default=0.0, ge=0, description="epochs over which the radius rises linearly from 0")
    natural_epochs: int = Field(
        default=0, ge=0, description="first epochs with the cross-entropy of clean images, whatever the loss"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of a label spread over all classes in the cross-entropy"
    )
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay per step of a running average of the weights, which is the result"
    )
    regularisers: Regularisers = Field(default={}, description="penalties on the weights, by kind")
    crop: int = Field(default=0, ge=0, description="pixels of padding for random crops")
    flip: bool = Field(default=False, description="mirror half of the images at random")
    precision: Precision = Field(
        default="auto",
        description="number format of the training; auto is bf16 where the processor has units for it, and a study "
        "resolves it before its first trial",
    )
    attack_labels: AttackLabels = Field(
        default="true",
        description="the labels that the attack climbs away from: the true ones, or those predicted on the clean "
        "image; the attack of trades needs neither",
    )
    validate_on: int = Field(
        default=0, ge=0, description="validation images whose training loss is recorded in eval mode; decides nothing"
    )
    validate_every: int | None = Field(
        default=None, gt=0, description="steps between two of these measurements; null: after every epoch"
    )
    awp: float = Field(
        default=0.0,
        ge=0,
        description="adversarial weight perturbation: gradients are taken where the weights are worst within this "
        "share of their norm",
    )
    awp_warmup: float = Field(default=0.0, ge=0, description="epochs before the perturbation begins")
    select: int = Field(
        default=0,
        ge=0,
        description="training images held back, each class in proportion; the result is the epoch with the highest "
        "robust accuracy on them",
    )
    select_attack: Annotated[Attack, ATTACKS] = Field(
        default=Pgd(steps=10), description="the attack on the images held back, within the full radius"
    )
    guard: Annotated[Attack, ATTACKS] | None = Field(
        default=None,
        description="the attack in an epoch after one that lost more than half of the highest robust accuracy on the "
        "images held back: single-step attacks can be learnt by heart, and networks are then open to all others "
        "(catastrophic overfitting); null: the attack stays",
    )
    activation_l1: float = Field(
        default=0.0, ge=0, description="weight of the l1 norm of each image's activations in the loss"
    )

    @model_validator(mode="after")
    def _radius_fits_norm(self) -> Self:
        check_radius(self.eps, self.attack.norm)
        others = {"select_attack": self.select_attack if self.select else None, "guard": self.guard}
        for field, other in others.items():
            if other is not None and other.norm != self.attack.norm:
                message = f"{other.kind} is in {other.norm}, but the radius of the training is in {self.attack.norm}"
                raise located(message, field, "norm", value=other.norm)
        if self.guard is not None and not self.select:
            raise located("a guard needs images that are held back; set select above 0", "select", value=0)
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
