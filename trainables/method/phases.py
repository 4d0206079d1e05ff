"""Phases, which every recipe consists of, as data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from trainables.core.spec import Spec, located, within
from trainables.mask_updates import MASK_UPDATES
from trainables.mask_updates.base import Fixed, MaskUpdate
from trainables.method.imitation import Imitation
from trainables.method.training import Training
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.pruning import Pruning
from trainables.pruning.rates import Rates
from trainables.reparametrisations import REPARAMETRISATIONS
from trainables.reparametrisations.base import Plain, Reparametrisation

RewindTo = Literal["init", "dense_trained", "random"] | Annotated[int, Field(ge=0)]

Rest = Literal["zero", "rewind", "random", "silent"]

_SHRUNK = "leave out filters that were pruned whole, where that changes last digits alone"


class Phase(Spec):
    """Base of every phase."""

    kind: str


class Init(Phase):
    """Initialise the network; the first phase of every trial. Its key also covers the data."""

    kind: Literal["init"] = "init"
    model: Annotated[Model, MODELS]
    seed: int


class EpochPhase(Phase):
    """Base of the phases that have epochs: their progress is saved, and their stages are shared between trials."""

    epochs: int = Field(ge=0)

    @property
    def first(self) -> int:
        """The number of epochs before the phase."""
        return 0

    @property
    def length(self) -> int:
        """The number of epochs of the phase."""
        return max(0, self.end - self.first)

    @property
    def end(self) -> int:
        """The epoch after which the phase is complete."""
        return self.epochs

    @property
    def stored_epochs(self) -> tuple[int, ...]:
        """The epochs before the end whose weights are stored."""
        return ()

    def check_length(self, images: int) -> None:
        """Refuse what never comes due in a phase that is trained on so many images.

        Raises:
            pydantic.ValidationError: names the field within the phase, and the length.
        """


class Train(EpochPhase):
    """Train epochs `start` to `epochs` of a training of `epochs`."""

    kind: Literal["train"] = "train"
    start: int = Field(default=0, ge=0, description="epochs of the schedule before the phase")
    until: int | None = Field(default=None, ge=0, description="epoch after which the phase ends; null: `epochs`")
    training: Training
    weights: Annotated[Reparametrisation, REPARAMETRISATIONS] = Field(
        default=Plain(), description="the reparametrisation of the weights"
    )
    rewiring: Annotated[MaskUpdate, MASK_UPDATES] = Field(
        default=Fixed(), description="how masks change during the training"
    )
    penalty_steps: int | None = Field(
        default=None,
        gt=0,
        description="steps that the weights of penalties are meant for: they are multiplied by it over the steps of "
        "the training; null: they are taken as they are",
    )
    snapshots: tuple[int, ...] = Field(
        default=(),
        description="epochs whose weights are stored, for a later rewind; they change no weight and no key",
        json_schema_extra={"hashed": False},
    )
    shrunk: bool = Field(default=False, description=_SHRUNK)
    sparse: bool = Field(
        default=False, description="attack a perceptron by sparse matrices, where most of a weight is pruned"
    )

    @property
    def whole_because(self) -> str | None:
        """Why filters that were pruned whole must stay in the network while it is trained; None where they need not."""
        if self.rewiring != Fixed():
            return f"{self.rewiring.kind} may change masks"
        if self.weights != Plain():
            return f"{self.weights.kind} trains other tensors than the weights"
        if not self.training.optimiser.entrywise:
            return f"the optimiser {self.training.optimiser.kind} may look at whole tensors"
        return None

    @model_validator(mode="after")
    def _rewiring_can_be_done(self) -> Self:
        if self.rewiring != Fixed() and self.weights != Plain():
            raise located("masks are updated for plain weights only", "weights", value=self.weights.kind)
        if self.rewiring.needs_held_back_images and not self.training.select:
            message = f"{self.rewiring.kind} as set here needs images that select holds back; set select above 0"
            raise located(message, "training", "select", value=0)
        return self

    def check_length(self, images: int) -> None:
        if (held := self.training.select) >= images:
            message = f"{held} of {images} images to train on are held back, which leaves none"
            raise located(message, "training", "select", value=held)
        steps = -(-(images - held) // self.training.batch)
        with within("training", "schedule"):
            self.training.schedule.check_length(self.epochs, steps)
        with within("rewiring"):
            self.rewiring.check_length((self.epochs - self.start) * steps, self.epochs - self.start)

    def penalty_factor(self, steps: int) -> float:
        """Return what the weights of penalties are multiplied by where an epoch has `steps` steps."""
        return 1.0 if self.penalty_steps is None else self.penalty_steps / (self.epochs * steps)

    @property
    def first(self) -> int:
        return self.start

    @property
    def stored_epochs(self) -> tuple[int, ...]:
        return self.snapshots

    @property
    def end(self) -> int:
        return self.epochs if self.until is None else min(self.until, self.epochs)


class Prune(Phase):
    """Prune weights; pruned weights stay pruned."""

    kind: Literal["prune"] = "prune"
    sparsity: float = Field(ge=0, lt=1, description="share of all these weights that is pruned after the phase")
    pruning: Pruning
    rates: Rates | None = Field(
        default=None,
        description="shares of their remaining weights that layers lose; `sparsity` holds if they are exact",
    )

    @model_validator(mode="after")
    def _structure_gives_sparsity(self) -> Self:
        self.pruning.check_sparsity(self.sparsity)
        return self


class Threshold(Phase):
    """Prune all prunable weights whose absolute value is below `below`."""

    kind: Literal["threshold"] = "threshold"
    below: float = Field(gt=0)


class Imitate(EpochPhase):
    """Search for a mask of this `sparsity`, before any training, with which the network computes what it did.

    The result is the mask and, unless the mask alone is learnt, other weights. `pruning` makes the first mask; the
    later ones, of the largest learnt values, have its scope and spare the same layers.
    """

    kind: Literal["imitate"] = "imitate"
    epochs: int = Field(gt=0)
    sparsity: float = Field(ge=0, lt=1)
    pruning: Pruning
    imitation: Imitation

    def check_length(self, images: int) -> None:
        with within("imitation"):
            self.imitation.check_length(self.epochs * -(-images // self.imitation.batch))

    @model_validator(mode="after")
    def _structure_gives_sparsity(self) -> Self:
        self.pruning.check_sparsity(self.sparsity)
        return self


class Snapshot(Phase):
    """Take the state that the training before it had after `epoch` of its epochs; what follows starts from its end."""

    kind: Literal["snapshot"] = "snapshot"
    epoch: int = Field(gt=0)


class Rewind(Phase):
    """Set the weights that are not pruned to earlier values; the masks stay."""

    kind: Literal["rewind"] = "rewind"
    to: RewindTo = Field(
        description="init: the values before the first training; a number: those after this epoch of it; "
        "dense_trained: those at its end; random: a fresh initialisation"
    )


class Inherit(Phase):
    """Make the pruned network dense again: it keeps its weights, and all masks are removed.

    With `rest` `zero` and `silent` the network computes what it did.
    Source: Wang et al. 2020, arXiv:2009.05423; the abstract leaves the details open.
    """

    kind: Literal["inherit"] = "inherit"
    rest: Rest = Field(
        default="zero",
        description="values of the pruned weights: 0; rewind: their initial values; random: fresh ones; silent: fresh "
        "ones into filters that were pruned whole and feed no weight that is left, 0 elsewhere",
    )
    scale: float = Field(default=1.0, ge=0, description="factor of these values")
    norms: bool = Field(default=True, description="keep the batch norms; false: start them anew")


class Measure(Phase):
    """Measure the network by the study's protocol: one point."""

    kind: Literal["measure"] = "measure"
    stands_for: dict[str, Any] = Field(
        default={},
        description="recipe fields with which this measurement would have been the recipe's last, as the sampler "
        "observes it",
        json_schema_extra={"hashed": False},
    )
    epoch: int | None = Field(
        default=None,
        description="epoch of the training before it of which the snapshot is that is measured; null: the state as it "
        "is. Samplers do not observe the former",
        json_schema_extra={"hashed": False},
    )
    shrunk: bool = Field(default=False, description=_SHRUNK)
