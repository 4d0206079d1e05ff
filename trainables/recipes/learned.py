"""What recipes that learn a mask share: a dense training, a search for the mask, a fine-tuning."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from trainables.method.phases import Measure, Phase, Prune, Train
from trainables.method.training import Training
from trainables.pruning import LAYERS, Pruning
from trainables.pruning.densities import LayerDensities, Uniform
from trainables.recipes.base import PUBLISHED_TRAINING, check_warmups
from trainables.recipes.finetuned import FineTuned, tuned
from trainables.reparametrisations.base import TRAINED_ON, Reparametrisation, TrainRest

PUBLISHED: dict[str, Any] = {
    "optimiser": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    "loss": {"kind": "trades", "beta": 6},
    "attack": {"kind": "pgd", "steps": 10, "step_size": 0.0078 / 0.031},
    "eps": 0.031,
    "precision": "fp32",
}
"""The training of HYDRA's code: TRADES, PGD-10 with steps of 0.0078, SGD, a cosine from 0.1, batches of 128."""


class Learned(FineTuned):
    """Train the dense network, learn which of its frozen weights to keep, fine-tune those.

    Every phase has its own schedule. All sparsities share the dense network,
    which is a measured point. While the mask is learned the weights are frozen: regularisers and `train.awp` have no
    effect, and `s2ap` perturbs the scores in their place.
    """

    published: ClassVar[dict[str, Any]] = PUBLISHED
    epochs: int = Field(default=100, gt=0, description="epochs of the first training")
    train: Training = Field(default=Training.model_validate(PUBLISHED), description=PUBLISHED_TRAINING)
    prune_epochs: int = Field(default=20, gt=0, description="epochs in which the mask is learned")
    prune_lr: float | None = Field(
        default=None, gt=0, description="learning rate of the mask; null: that of the training"
    )
    finetune_epochs: int = Field(default=100, ge=0, description="epochs of the fine-tuning")
    finetune_lr: float | None = Field(
        default=None,
        gt=0,
        description="learning rate of the fine-tuning; null: a tenth of the training's, as published",
    )
    train_rest: TrainRest = Field(default="norms", description=f"while the mask is learned: {TRAINED_ON}")

    layers: Annotated[LayerDensities, LAYERS] = Field(
        default=Uniform(), description="how much each layer keeps, or begins with where densities are learned"
    )
    s2ap: float = Field(
        default=0.0,
        ge=0,
        description="score-space sharpness while the mask is learned: gradients are taken where each layer's scores "
        "are worst within this share of their norm; 0 for none",
    )
    s2ap_warmup: float = Field(
        default=0.25, ge=0, lt=1, description="share of the search for the mask before that begins"
    )

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        check_warmups(self.train, self.epochs)
        return self

    @abstractmethod
    def search(self) -> Reparametrisation:
        """Return the reparametrisation with which the mask is learned."""

    def learning(self) -> Train:
        """Return the training that learns the mask."""
        searching = tuned(self.train, self.prune_lr).model_copy(update={"awp": 0.0})
        return Train(epochs=self.prune_epochs, training=searching, weights=self.search())

    def cut(self) -> Pruning:
        """Return how the learned mask is applied, which has the sparsity already."""
        return Pruning()

    def phases(self) -> tuple[Phase, ...]:
        dense = (Train(epochs=self.epochs, training=self.train), Measure(stands_for={"sparsity": 0.0}))
        if not self.sparsity:
            return dense
        lr = self.train.optimiser.lr / 10 if self.finetune_lr is None else self.finetune_lr
        tuning = Train(epochs=self.finetune_epochs, training=self.finetuning(lr))
        held = Prune(sparsity=self.sparsity, pruning=self.cut())
        return (*dense, self.learning(), held, *((tuning,) if self.finetune_epochs else ()), Measure())
