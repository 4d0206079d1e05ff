"""R-ADMM: adversarial training that pulls weights towards the budget they are then cut to."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from trainables.core.spec import located
from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.method.schedules import SCHEDULES, Schedule, Step
from trainables.method.training import Training
from trainables.pruning import Pruning
from trainables.recipes.base import PENALTY_STEPS, PUBLISHED_TRAINING, check_warmups
from trainables.recipes.finetuned import FineTuned, tuned
from trainables.reparametrisations.admm import Admm, check_projection

PUBLISHED: dict[str, Any] = {
    "optimiser": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    "attack": {"kind": "pgd", "steps": 10, "step_size": 0.25},
    "precision": "fp32",
}
"""The code's first training for CIFAR-10: adversarial images alone, PGD-10 with steps of 2/255, a cosine from 0.1."""


class Radmm(FineTuned):
    """Train the dense network, train it further with an ADMM penalty towards the sparsity, prune to it, and retrain.

    All sparsities share the dense network, which is a measured point. The code prunes the layers of a list, in its
    example no linear one; by default this recipe prunes all.
    Source: Ye et al. 2019, arXiv:1903.12561, by its code.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    kind: Literal["radmm"] = "radmm"
    finetune_length: ClassVar[str] = "retrain_epochs"
    epochs: int = Field(default=200, gt=0, description="epochs of the first training")
    train: Training = Field(default=Training.model_validate(PUBLISHED), description=PUBLISHED_TRAINING)
    admm_epochs: int = Field(default=200, gt=0, description="epochs with the penalty")
    admm_lr: float | None = Field(
        default=None, gt=0, description="learning rate with the penalty; null: a tenth of the training's"
    )
    rho: float = Field(default=1e-3, gt=0, description="first weight of the penalty, as of the weights `admm`")
    growth: float = Field(default=1.3, ge=1, description="factor of that weight at each update")
    penalty_steps: int | None = Field(default=200 * 391, gt=0, description=PENALTY_STEPS)
    update_epochs: int = Field(default=20, gt=0, description="epochs between two updates")
    restarts: bool = Field(
        default=True,
        description="restart the learning rate with each update, and divide it by ten after each third of the epochs "
        "up to the next",
    )
    prune: Pruning = Field(default=Pruning(scope="layerwise"), description="how it is pruned")
    retrain_epochs: int = Field(default=200, ge=0, description="epochs of the retraining")
    retrain_lr: float | None = Field(
        default=None, gt=0, description="learning rate of the retraining; null: a tenth of the training's"
    )
    retrain_schedule: Annotated[Schedule, SCHEDULES] = Field(
        default=Step(at=(0.4, 0.75)), description="learning-rate schedule of the retraining"
    )

    @field_validator("prune")
    @classmethod
    def _projects(cls, value: Pruning) -> Pruning:
        return check_projection(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_warmups(self.train, self.epochs)
        warmup, epochs = self.retrain_schedule.warmup, self.retrain_epochs
        if 0 < epochs < warmup:
            message = f"a warm-up of {warmup:g} epochs exceeds the training of {epochs} epochs"
            raise located(message, "retrain_schedule", "warmup", value=warmup)
        if self.update_epochs >= self.admm_epochs:
            message = f"no update comes due after {self.update_epochs} of {self.admm_epochs} epochs with the penalty"
            raise located(message, "update_epochs", value=self.update_epochs)
        return self

    def phases(self) -> tuple[Phase, ...]:
        dense = (Train(epochs=self.epochs, training=self.train), Measure(stands_for={"sparsity": 0.0}))
        if not self.sparsity:
            return dense
        restarting = Step(at=(1 / 3, 2 / 3), cycle=self.update_epochs) if self.restarts else None
        pulled = Train(
            epochs=self.admm_epochs,
            training=self._later(tuned(self.train, self._lr(self.admm_lr)), restarting),
            weights=self._pull(),
            penalty_steps=self.penalty_steps,
        )
        cut = Prune(sparsity=self.sparsity, pruning=self.prune)
        retraining = self._later(self.finetuning(self._lr(self.retrain_lr)), self.retrain_schedule)
        rest = Train(epochs=self.retrain_epochs, training=retraining)
        return (*dense, pulled, cut, *((rest,) if self.retrain_epochs else ()), Measure())

    def _pull(self) -> Admm:
        return Admm(
            sparsity=self.sparsity,
            rho=self.rho,
            growth=self.growth,
            update_epochs=self.update_epochs,
            pruning=self.prune,
        )

    def _lr(self, given: float | None) -> float:
        return self.train.optimiser.lr / 10 if given is None else given

    @staticmethod
    def _later(training: Training, schedule: Schedule | None) -> Training:
        """Return the training of a later phase, by default with the schedule of the first one."""
        return training if schedule is None else training.model_copy(update={"schedule": schedule})
