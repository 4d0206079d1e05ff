"""The claims of Shi et al. 2022 (adversarial winning tickets) at a size for one core.

MNIST (6,000 training images) with LeNet-100-50: the search at initialisation (`method: awt`) and its controls at 90 %
sparsity, AWT at other sparsities, and for comparison the dense network, adversarially trained by the same recipe at
l_inf 0.1. We do not know the paper's settings of the training; all are ours. The search uses kernels of one random
combination of the logits per step; measurements use all pairs of classes.

    python benchmarks/papers/shi2022.py --data DATA
    python benchmarks/papers/shi2022.py --tiny          # digits, under a minute; its numbers mean nothing
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import common
import torch
from common import Arm, Bench, Claim, TrialSpec

from search.results.verdicts import Difference, Mean
from trainables import models
from trainables.data import tensors
from trainables.method.phases import Train
from trainables.recipes.trial import keyed_phases

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
    """How large the experiment is.

    `marks` are epochs after which sparse and dense logits are compared, `rerank` the steps between two masks of the
    search.
    """

    data: str
    limit: int
    hidden: Sequence[int]
    epochs: int
    search_epochs: int
    examples: int
    marks: tuple[int, ...]
    rerank: float = 25
    sparsity: float = 0.9
    others: tuple[float, ...] = (0.8, 0.95, 0.98)


FULL = Size("mnist", 6000, (100, 50), epochs=8, search_epochs=4, examples=1000, marks=(1, 2, 3, 4, 6))
TINY = Size("digits", 300, (16,), epochs=2, search_epochs=1, examples=100, marks=(1,), rerank=1, others=(0.8,))


@dataclass(frozen=True)
class Experiment:
    """All trials of one seed."""

    size: Size
    data: Mapping[str, Any]
    seed: int

    def trial(self, sparsity: float, **recipe: Any) -> TrialSpec:
        """Describe a trial."""
        size = self.size
        attack = {"kind": "pgd", "steps": 5}
        imitation = {"outputs": "random", "attack": attack, "eps": 0.1, "rerank": size.rerank}
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

    def rows(self) -> dict[tuple[str, float], TrialSpec]:
        """Return all trials by method and sparsity."""
        size = self.size
        methods = {(method, size.sparsity): self.named(method) for method in ("dense", *SEARCHED, *CONTROLS)}
        return methods | {("AWT", sparsity): self.named("AWT", sparsity) for sparsity in size.others}


def experiments(options: Namespace) -> list[Experiment]:
    return common.by_seed(options, Experiment)


def trials(options: Namespace) -> Iterator[TrialSpec]:
    """Yield all trials, all of a seed before the next one."""
    for experiment in experiments(options):
        yield from experiment.rows().values()


@dataclass(frozen=True)
class Results:
    """What was measured, before and after the training, and what the stages tell."""

    options: Namespace
    bench: Bench

    @property
    def size(self) -> Size:
        size: Size = self.options.size
        return size

    def specs(self, method: str, sparsity: float | None = None) -> list[TrialSpec]:
        at = self.size.sparsity if sparsity is None else sparsity
        return [experiment.rows()[method, at] for experiment in experiments(self.options)]

    def accuracy(self, method: str, name: str = "robust_accuracy", sparsity: float | None = None) -> Arm:
        """Return an accuracy after the training."""
        specs = self.specs(method, sparsity)
        return common.arm([self.bench.points(spec)[-1] for spec in specs], name, common.chance(specs[0]))

    def robust(self, method: str, sparsity: float | None = None) -> Arm:
        return self.accuracy(method, sparsity=sparsity)

    def distance(self, method: str, name: str) -> Arm:
        """Return a distance to the dense network before training."""
        starts = [self.bench.points(spec)[0] for spec in self.specs(method)]
        return Arm.of([common.number(point, f"{name}_mixed") for point in starts])

    def seconds(self, method: str) -> Arm:
        """Return how long search and training took, whenever they were done."""
        return Arm.of([self.bench.seconds(spec) for spec in self.specs(method)])

    def dynamics(self, method: str) -> Arm:
        """Return the mean squared difference to the dense network's logits, over images and marked epochs."""
        pairs = zip(self.specs(method), self.specs("dense"), strict=True)
        return Arm.of([float((self._path(ours) - self._path(dense)).square().mean()) for ours, dense in pairs])

    @torch.no_grad()
    def _path(self, trial: TrialSpec) -> torch.Tensor:
        """Return the logits of the validation images after each marked epoch and at the end, (epochs, images, 10)."""
        data = tensors.load(trial.data)
        shape = {"shape": data.shape, "classes": data.classes, "mean": data.mean, "std": data.std}
        (key,) = (step.key for step in keyed_phases(trial, data.fingerprint) if isinstance(step.phase, Train))
        images = data.validation.pixels(slice(self.size.examples))
        path = []
        for mark in (*self.size.marks, None):
            state = self.bench.stages.load(key, mark)
            if state is None:
                raise SystemExit(
                    f"{self.options.folder}: the weights after epoch {mark} are missing; delete the folder"
                )
            path.append(state.into(models.build(trial.model, seed=0, **shape)).eval()(images))
        return torch.stack(path)


def claims(results: Results) -> Iterator[Claim]:
    """Yield the claims C2.1 to C2.5."""
    for name, text in (("target_distance", "logits"), ("kernel_relative", "tangent kernels")):
        for other in ("magnitude", "random", "SNIP"):
            found = Difference(results.distance("AWT", name), results.distance(other, name))
            start = ", with which the search starts" if other == "magnitude" else ""
            what = f"distance of {text} to the dense network, AWT less {other}{start}"
            yield Claim.bounded("C2.1", what, "below 0", found, scale=1, digits=3, less_than=0.0)
    for other in ("magnitude", "random", "SNIP"):
        found = Difference(results.dynamics("AWT"), results.dynamics(other))
        what = f"distance to the dense network's logits over the training, AWT less {other}"
        yield Claim.bounded("C2.2", what, "below 0", found, scale=1, digits=3, less_than=0.0)
    size = results.size
    for sparsity in sorted({size.sparsity, *size.others}):
        found = Difference(results.robust("AWT", sparsity), results.robust("dense"))
        what = f"robust accuracy of AWT less that of the dense network, points, at {sparsity:.0%} sparsity"
        yield Claim.bounded("C2.3", what, "equal: not below -1", found, at_least=-0.01)
    for ours, theirs in (
        ("AWT", "AWT mask, new weights"),
        ("AWT mask, new weights", "random"),
        ("AWT", "random"),
        ("AWT", "magnitude, rescaled"),
        ("AWT, global", "SNIP"),
    ):
        found = Difference(results.robust(ours), results.robust(theirs))
        yield Claim.bounded(
            "C2.4", f"robust accuracy of {ours} less that of {theirs}, points", "above 0", found, more_than=0.0
        )
    both = results.seconds("dense").values + results.seconds("random").values
    costs = Mean(Arm.of(list(results.seconds("AWT").values / both)))
    what = "seconds of search and sparse training, over those of a dense and a sparse training"
    yield Claim.bounded("C2.5", what, "below 1", costs, scale=1, digits=2, less_than=1.0)


def methods(results: Results) -> str:
    """Write what was measured of each method."""
    columns: tuple[tuple[str, Callable[[str], Arm], float, int], ...] = (
        ("logits", lambda method: results.distance(method, "target_distance"), 1, 3),
        ("kernel, relative", lambda method: results.distance(method, "kernel_relative"), 1, 3),
        ("logits over training", results.dynamics, 1, 2),
        ("clean %", lambda method: results.accuracy(method, "clean_accuracy"), 100, 1),
        ("robust %", results.robust, 100, 1),
        ("seconds", results.seconds, 1, 1),
    )
    rows = [
        (method, *(Mean(arm(method)).interval().text(scale, digits) for _, arm, scale, digits in columns))
        for method in ("dense", *SEARCHED, *CONTROLS)
    ]
    return common.markdown(("", *(heading for heading, *_ in columns)), rows)


def report(options: Namespace, bench: Bench) -> Iterator[str]:
    size, results = options.size, Results(options, bench)
    yield (
        f"{size.data}, {size.limit} training images, LeNet-{'-'.join(map(str, size.hidden))}, {size.epochs} epochs, "
        f"search of {size.search_epochs} more, l_inf 0.1, PGD-20 on {size.examples} validation images, "
        f"{options.seeds} seeds. {common.READING}\n"
    )
    yield common.table(claims(results))
    yield f"At {size.sparsity:.0%} sparsity; distances to the dense network before training, and of logits over it:\n"
    yield methods(results)


def parsed(given: Sequence[str] | None = None) -> Namespace:
    return common.sized(__doc__, "shi2022", FULL, TINY, given)


if __name__ == "__main__":
    common.run(parsed(), trials, report)
