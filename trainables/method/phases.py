"""Phases: the steps that every recipe is made of, as data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from trainables.core.spec import Spec, located
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


class Phase(Spec):
    """Base of every phase."""

    kind: str


class Init(Phase):
    """Initialise the network; the root of every chain. Its key also covers the data."""

    kind: Literal["init"] = "init"
    model: Annotated[Model, MODELS]
    seed: int


class EpochPhase(Phase):
    """Base of the phases that go in epochs: shared between trials, saved on the way, and counted."""

    epochs: int = Field(ge=0)

    @property
    def first(self) -> int:
        """How many of the epochs lie before the phase."""
        return 0

    @property
    def length(self) -> int:
        """How many epochs the phase takes."""
        return max(0, self.end - self.first)

    @property
    def end(self) -> int:
        """The epoch after which the phase is complete."""
        return self.epochs

    @property
    def kept(self) -> tuple[int, ...]:
        """The epochs whose weights are stored on the way."""
        return ()


class Train(EpochPhase):
    """Train epochs `start` to `epochs` of a training of `epochs`, masks held.

    `until` ends it earlier. `weights` says what is trained in place of the weights, `rewiring` how masks change on
    the way. `snapshots` are epochs whose weights are stored on the way, for a later rewind; they change no weight and
    no key.
    """

    kind: Literal["train"] = "train"
    start: int = Field(default=0, ge=0)
    until: int | None = Field(default=None, ge=0)
    training: Training
    weights: Annotated[Reparametrisation, REPARAMETRISATIONS] = Plain()
    rewiring: Annotated[MaskUpdate, MASK_UPDATES] = Fixed()
    snapshots: tuple[int, ...] = Field(default=(), json_schema_extra={"hashed": False})

    @model_validator(mode="after")
    def _rewiring_can_be_done(self) -> Self:
        if self.rewiring != Fixed() and self.weights != Plain():
            raise located("masks are updated for plain weights only", "weights", value=self.weights.kind)
        if self.rewiring.needs_held_back_images and not self.training.select:
            message = f"{self.rewiring.kind} as set here needs images that select holds back; set select above 0"
            raise located(message, "training", "select", value=0)
        return self

    @property
    def first(self) -> int:
        return self.start

    @property
    def kept(self) -> tuple[int, ...]:
        return self.snapshots

    @property
    def end(self) -> int:
        return self.epochs if self.until is None else min(self.until, self.epochs)


class Prune(Phase):
    """Cut to `sparsity` of all convolution and linear weights; what is cut stays cut.

    With `rates` every layer loses a share of what it has left, and `sparsity` is the total that this comes to only
    where the rates are `exact`.
    """

    kind: Literal["prune"] = "prune"
    sparsity: float = Field(ge=0, lt=1)
    pruning: Pruning
    rates: Rates | None = None

    @model_validator(mode="after")
    def _structure_gives_sparsity(self) -> Self:
        self.pruning.check_sparsity(self.sparsity)
        return self


class Threshold(Phase):
    """Cut all convolution and linear weights whose absolute value is below `below`, however many that are."""

    kind: Literal["threshold"] = "threshold"
    below: float = Field(gt=0)


class Imitate(EpochPhase):
    """Cut to `sparsity` and learn, before any training, to do what the network did as it came.

    What is handed on is the mask and, unless the mask alone is learnt, other weights. `pruning` makes the first mask;
    the later ones, by the size of what is learnt, have its shape (scope, layers that are spared).
    """

    kind: Literal["imitate"] = "imitate"
    epochs: int = Field(gt=0)
    sparsity: float = Field(ge=0, lt=1)
    pruning: Pruning
    imitation: Imitation

    @model_validator(mode="after")
    def _structure_gives_sparsity(self) -> Self:
        self.pruning.check_sparsity(self.sparsity)
        return self


class Rewind(Phase):
    """Give the surviving weights earlier values; the masks stay.

    `init`: those before the first training; a number: those after so many epochs of the first
    training; `dense_trained`: those at its end; `random`: a fresh initialisation.
    """

    kind: Literal["rewind"] = "rewind"
    to: RewindTo


class Inherit(Phase):
    """Make the pruned network whole again: its living weights are inherited, all masks opened.

    `rest` says what the others are: `zero`; `rewind`, their initial values; `random`, fresh ones; `silent`, fresh
    ones into filters that were pruned whole, 0 out of them and elsewhere. The last two, and `rewind`, times `scale`.
    With `zero` and `silent` the network computes what it did (for `silent` where no dead filter was added to a living
    channel). `norms` says whether batch norms are inherited, or start anew.
    Source: Wang et al. 2020, arXiv:2009.05423; the abstract leaves all of this open.
    """

    kind: Literal["inherit"] = "inherit"
    rest: Rest = "zero"
    scale: float = Field(default=1.0, ge=0)
    norms: bool = True


class Measure(Phase):
    """Measure the network by the study's protocol: one point.

    `stands_for` are recipe fields with which this measurement would have been the recipe's last:
    what the sampler learns it as.
    """

    kind: Literal["measure"] = "measure"
    stands_for: dict[str, Any] = Field(default={}, json_schema_extra={"hashed": False})
