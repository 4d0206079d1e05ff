"""The claims of Shi et al. 2022 (adversarial winning tickets) at a size for one core.

MNIST (6,000 training images) with LeNet-100-50: the search at initialisation (`method: awt`) and its controls at 90 %
sparsity, AWT at other sparsities, and for comparison the dense network, adversarially trained by the same recipe at
l_inf 0.1. We do not know the paper's settings of the training; all are ours. The search uses kernels of one random
combination of the logits per step; measurements use all pairs of classes.

    python benchmarks/papers/shi2022.py --data DATA     # about 15 minutes on one core
    python benchmarks/papers/shi2022.py --tiny          # digits, under a minute; its numbers mean nothing
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import common
import torch
from common import Claim, Interval, interval, paired

from trainables import models
from trainables.data import tensors
from trainables.method.phases import Imitate, Train
from trainables.recipes.trial import KeyedPhase, TrialSpec, keyed_phases
from trainables.store.records import Point
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Storage

CONTROLS: dict[str, dict[str, Any]] = {
    "random": {"pruner": "random"},
    "random, rescaled": {"pruner": "random", "rescale": True},
    "magnitude": {},
    "magnitude, rescaled": {"rescale": True},
    "SNIP": {"pruner": "snip", "scope": "global"},
    "SNIP, adversarial": {"pruner": {"kind": "snip", "inputs": "pgd", "eps": 0.1}, "scope": "global"},
    "GraSP": {"pruner": "grasp", "scope": "global"},
    "SynFlow": {"pruner": "synflow", "scope": "global"},
    "NTK-SAP": {"pruner": "ntk_sap", "scope": "global"},
}
"""The prunings at initialisation that the search is compared with, by their names in the table.

Within layers what is compared with a search within layers; global what was published so.
"""
SEARCHED: dict[str, dict[str, Any]] = {
    "AWT": {},
    "AWT, global": {"prune": {"scope": "global"}},
    "AWT mask, initial weights": {"weights": "init"},
    "AWT mask, new weights": {"weights": "random"},
}


@dataclass(frozen=True)
class Size:
    """How large the experiment is. `marks` are epochs after which sparse and dense logits are compared."""

    data: str
    limit: int
    hidden: Sequence[int]
    epochs: int
    search_epochs: int
    examples: int
    marks: tuple[int, ...]
    sparsity: float = 0.9
    others: tuple[float, ...] = (0.8, 0.95, 0.98)


FULL = Size("mnist", 6000, (100, 50), epochs=8, search_epochs=4, examples=1000, marks=(1, 2, 3, 4, 6))
TINY = Size("digits", 300, (16,), epochs=2, search_epochs=1, examples=100, marks=(1,), others=(0.8,))


@dataclass(frozen=True, eq=False)
class Experiment:
    """All trials of one seed; each is run once, however often it is asked for."""

    size: Size
    data: Mapping[str, Any]
    folder: Path
    seed: int

    def trial(self, sparsity: float, **recipe: Any) -> TrialSpec:
        """Describe a trial."""
        size = self.size
        attack = {"kind": "pgd", "steps": 5}
        imitation = {"outputs": "random", "attack": attack, "eps": 0.1, "rerank": 25}
        train = {
            "batch": 100,
            "optimiser": {"kind": "adam", "lr": 2e-3},
            "attack": attack,
            "eps": 0.1,
            "precision": "fp32",
        }
        fields = {"sparsity": sparsity, "epochs": size.epochs, "search_epochs": size.search_epochs, **recipe}
        fields |= {"kind": "shi2022", "imitation": imitation, "train": train, "measure_start": True}
        protocol = {"eps": 0.1, "examples": size.examples, "attack": {"kind": "pgd", "steps": 20}}
        return TrialSpec.model_validate(
            {
                "data": self.data,
                "model": {"kind": "lenet300", "hidden": size.hidden},
                "recipe": fields,
                "protocol": {**protocol, "metrics": ["dense_distance"]},
                "seed": self.seed,
                "snapshots": size.marks,
            }
        )

    def named(self, method: str, sparsity: float | None = None) -> TrialSpec:
        """Return the trial of a row of the table."""
        at = self.size.sparsity if sparsity is None else sparsity
        if method == "dense":
            return self.trial(0.0)
        if method in SEARCHED:
            return self.trial(at, **SEARCHED[method])
        return self.trial(at, method="prune", prune={"scope": "layerwise", **CONTROLS[method]})

    @cache  # noqa: B019 (an experiment lives as long as the script)
    def found(self, method: str, sparsity: float | None = None) -> Found:
        """Run a trial, and return what is known of it."""
        trial = self.named(method, sparsity)
        return Found(self, trial, *common.points(trial, self.folder))

    @cached_property
    def stages(self) -> Stages:
        return Stages(Storage(str(self.folder)))

    @cached_property
    def tensors(self) -> tensors.TrainingData:
        return tensors.load(self.trial(0.0).data)

    @cached_property
    def path_of_dense(self) -> list[torch.Tensor]:
        """The dense network's logits after each of the marked epochs."""
        return self.found("dense").path()


@dataclass(frozen=True, eq=False)
class Found:
    """A trial that was run: the points before and after its training, and what the stages tell."""

    experiment: Experiment
    trial: TrialSpec
    start: Point
    end: Point

    def keyed_phases(self) -> tuple[KeyedPhase, ...]:
        return keyed_phases(self.trial, self.experiment.tensors.fingerprint)

    def seconds(self) -> float:
        """Return how long search and training took, whenever they were done."""
        keys = [step.key for step in self.keyed_phases() if isinstance(step.phase, (Imitate, Train))]
        return sum(stage.seconds for key in keys if (stage := self.experiment.stages.find(key)) is not None)

    def distance(self, name: str) -> float:
        """Return a distance to the dense network before training."""
        value = self.start.metrics[f"{name}_mixed"]
        return math.nan if value is None else value

    def path(self) -> list[torch.Tensor]:
        """Return the logits of the validation images after each of the marked epochs, and at the end."""
        (key,) = (step.key for step in self.keyed_phases() if isinstance(step.phase, Train))
        states = [self.experiment.stages.load(key, mark) for mark in (*self.experiment.size.marks, None)]
        return [self._logits(state) for state in states if state is not None]

    def dynamics(self) -> float:
        """Return the mean squared difference to the dense network's logits, over images and marked epochs."""
        pairs = zip(self.path(), self.experiment.path_of_dense, strict=True)
        return statistics.fmean(float((ours - theirs).square().mean()) for ours, theirs in pairs)

    @torch.no_grad()
    def _logits(self, state: State) -> torch.Tensor:
        data = self.experiment.tensors
        shape = {"shape": data.shape, "classes": data.classes, "mean": data.mean, "std": data.std}
        net = state.into(models.build(self.trial.model, seed=0, **shape)).eval()
        logits: torch.Tensor = net(data.validation.pixels(slice(self.experiment.size.examples)))
        return logits


def compared(experiments: Sequence[Experiment], value: Any, ours: str, theirs: str) -> Interval:
    """Return the interval of the differences between two methods, seed by seed."""
    return paired(*([value(e.found(method)) for e in experiments] for method in (ours, theirs)))


def robust(found: Found) -> float:
    return found.end.robust_accuracy


def claims(experiments: Sequence[Experiment]) -> list[Claim]:
    """Judge the claims."""
    size = experiments[0].size
    judged = []
    for name, text in (("target_distance", "logits"), ("kernel_relative", "tangent kernels")):
        for other in ("magnitude", "random", "SNIP"):
            found = compared(experiments, lambda f, name=name: f.distance(name), "AWT", other)
            start = ", with which the search starts" if other == "magnitude" else ""
            text_ = f"distance of {text} to the dense network, AWT less {other}{start}"
            judged.append(Claim.judged("C2.1", text_, "below 0", found, at_most=0.0, digits=3))
    for other in ("magnitude", "random", "SNIP"):
        found = compared(experiments, Found.dynamics, "AWT", other)
        text_ = f"distance to the dense network's logits over the training, AWT less {other}"
        judged.append(Claim.judged("C2.2", text_, "below 0", found, at_most=0.0, digits=3))
    for sparsity in sorted({size.sparsity, *size.others}):
        gaps = [robust(e.found("AWT", sparsity)) - robust(e.found("dense")) for e in experiments]
        text_ = f"robust accuracy of AWT less that of the dense network, points, at {sparsity:.0%} sparsity"
        judged.append(Claim.judged("C2.3", text_, "equal: not below -1", interval(gaps), at_least=-0.01, scale=100))
    for ours, theirs in (
        ("AWT", "AWT mask, new weights"),
        ("AWT mask, new weights", "random"),
        ("AWT", "random"),
        ("AWT", "magnitude, rescaled"),
        ("AWT, global", "SNIP"),
    ):
        found = compared(experiments, robust, ours, theirs)
        text_ = f"robust accuracy of {ours} less that of {theirs}, points"
        judged.append(Claim.judged("C2.4", text_, "above 0", found, at_least=0.0, scale=100))
    costs = [e.found("AWT").seconds() / (e.found("dense").seconds() + e.found("random").seconds()) for e in experiments]
    text_ = "seconds of search and sparse training, over those of a dense and a sparse training"
    judged.append(Claim.judged("C2.5", text_, "below 1", interval(costs), at_most=1.0, digits=2))
    return judged


def methods(experiments: Sequence[Experiment]) -> str:
    """Write what was measured of each method."""
    rows = []
    for method in ("dense", *SEARCHED, *CONTROLS):
        found = [e.found(method) for e in experiments]
        rows.append(
            (
                method,
                interval(f.distance("target_distance") for f in found).text(digits=3),
                interval(f.distance("kernel_relative") for f in found).text(digits=3),
                interval(f.dynamics() for f in found).text(digits=2),
                interval(f.end.clean_accuracy for f in found).text(100),
                interval(robust(f) for f in found).text(100),
                interval(f.seconds() for f in found).text(),
            )
        )
    headings = ("", "logits", "kernel, relative", "logits over training", "clean %", "robust %", "seconds")
    return common.markdown(headings, rows)


def main() -> None:
    """Run all trials and print the tables."""
    parser = common.arguments(__doc__, "shi2022")
    options = parser.parse_args()
    size = TINY if options.tiny else FULL
    data = common.data(size.data, options.data, limit=size.limit, validation=max(size.examples, 100))
    folder = options.folder / ("tiny" if options.tiny else "full")
    experiments = [Experiment(size, data, folder, seed) for seed in range(options.seeds)]
    net = "-".join(map(str, size.hidden))
    about = (
        f"{size.data}, {size.limit} training images, LeNet-{net}, {size.epochs} epochs, search of {size.search_epochs} "
        f"more, l_inf 0.1, PGD-20 on {size.examples} validation images, {options.seeds} seeds, 95 % intervals."
    )
    at = f"At {size.sparsity:.0%} sparsity; distances to the dense network before training, and of logits over it:"
    common.tell(f"{about}\n\n{common.table(claims(experiments))}\n{at}\n\n{methods(experiments)}", options.output)


if __name__ == "__main__":
    main()
