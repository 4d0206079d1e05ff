"""The claims of Wang et al. 2020 (sparsity and robustness, inverse weights inheritance) at a size for one core.

MNIST (6,000 training images) with LeNet-100-50, adversarially trained at l_inf 0.1. All settings are ours, because we
know only the abstract of the paper. Against robust overfitting, every training returns its most robust epoch on 500
held-back training images. The network has no batch norm, so network slimming is not compared.

    python benchmarks/papers/wang2020.py --data DATA --output build/papers/wang2020.md
    python benchmarks/papers/wang2020.py --tiny     # digits, in seconds; its numbers mean nothing
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import common
from common import Arm, Bench, Claim, TrialSpec

from search.results.verdicts import Difference, Mean

MODES = ("continued", "rewound", "random")
LARGE: dict[str, dict[str, Any]] = {
    "scratch, equal epochs": {"large": "equal_epochs"},
    "scratch, equal compute": {"large": "equal_compute"},
    "IWI, pruned, rest zero": {"rest": "zero"},
    "IWI, pruned, rest initial": {"rest": "rewind"},
    "IWI, filters, rest random": {"small": "filter", "rest": "random"},
    "IWI, narrow, rest silent": {"small": "narrow", "rest": "silent"},
}
"""The large networks by their names in the table: baselines, and who inherits from what."""
SCRATCH = {
    "pruned": "scratch, equal compute",
    "filters": "scratch, equal compute",
    "narrow": "scratch, equal compute, narrow",
}
"""The baseline of equal compute by source: nothing is retrained where the small network is a narrow one."""


@dataclass(frozen=True)
class Size:
    """How large the experiment is; `sparsity` is that of the networks that are inherited from."""

    data: str
    limit: int
    hidden: Sequence[int]
    epochs: int
    retrain_epochs: int
    held: int
    examples: int
    sparsities: tuple[float, ...]
    sparsity: float = 0.9
    sources: tuple[str, ...] = ("global", "layerwise", "filter")


FULL = Size("mnist", 6000, (100, 50), 12, 6, held=500, examples=1000, sparsities=(0.5, 0.8, 0.9, 0.95, 0.98, 0.99))
TINY = Size("digits", 300, (24, 16), 2, 1, held=30, examples=100, sparsities=(0.5, 0.9), sources=("global", "filter"))


@dataclass(frozen=True)
class Experiment:
    """All trials of one seed."""

    size: Size
    data: Mapping[str, Any]
    seed: int

    def trial(self, **recipe: Any) -> TrialSpec:
        """Describe a trial."""
        size = self.size
        train = {
            "batch": 100,
            "optimiser": {"kind": "adam", "lr": 2e-3},
            "attack": {"kind": "pgd", "steps": 5},
            "eps": 0.1,
            "select": size.held,
            "precision": "fp32",
        }
        fields = {"epochs": size.epochs, "retrain_epochs": size.retrain_epochs, "large_epochs": size.epochs}
        protocol = {"eps": 0.1, "examples": size.examples, "attack": {"kind": "pgd", "steps": 20}}
        return TrialSpec.model_validate(
            {
                "data": self.data,
                "model": {"kind": "lenet300", "hidden": size.hidden},
                "recipe": {"kind": "wang2020", "train": train, **fields, **recipe},
                "protocol": {**protocol, "metrics": ["weights", "spectrum"]},
                "seed": self.seed,
            }
        )

    def small(
        self, sparsity: float, source: str = "global", mode: str = "continued", natural: bool = False
    ) -> TrialSpec:
        """Return the small network of a source and a way to inherit; of sparsity 0, the dense one, trained as long."""
        if not sparsity:
            return self.trial(sparsity=0.0, epochs=self.size.epochs + self.size.retrain_epochs)
        return self.trial(sparsity=sparsity, small=source, weights=mode, natural_first=natural, large="none")

    def large(self, name: str) -> TrialSpec:
        """Return a large network by its name in the table."""
        if name == "scratch, equal compute, narrow":
            return self.trial(sparsity=self.size.sparsity, small="narrow", large="equal_compute")
        return self.trial(sparsity=self.size.sparsity, **LARGE[name])

    def rows(self) -> dict[str, TrialSpec]:
        """Return all networks by their names in the table."""
        size = self.size
        rows = {curve(sparsity): self.small(sparsity) for sparsity in (0.0, *size.sparsities)}
        for source in size.sources:
            rows |= {f"{source}, {mode}": self.small(size.sparsity, source, mode) for mode in MODES}
        rows["global, natural first"] = self.small(size.sparsity, natural=True)
        return rows | {name: self.large(name) for name in (*LARGE, *SCRATCH.values())}


def curve(sparsity: float) -> str:
    """Return the name of a network of the curve over sparsity."""
    return f"pruned to {sparsity:.0%}" if sparsity else "dense"


def experiments(options: Namespace) -> list[Experiment]:
    return common.by_seed(options, Experiment)


def trials(options: Namespace) -> Iterator[TrialSpec]:
    """Yield all trials, all of a seed before the next one."""
    for experiment in experiments(options):
        yield from experiment.rows().values()


@dataclass(frozen=True)
class Results:
    """What was measured."""

    options: Namespace
    bench: Bench

    def arm(self, name: str, value: str = "robust_accuracy") -> Arm:
        """Return a number of a row of the table."""
        specs = [experiment.rows()[name] for experiment in experiments(self.options)]
        points = [self.bench.points(spec)[-1] for spec in specs]
        return common.arm(points, value, common.chance(specs[0]))

    def less(self, ours: str, theirs: str, value: str = "robust_accuracy") -> Difference:
        return Difference(self.arm(ours, value), self.arm(theirs, value))


ABOVE, BELOW = {"more_than": 0.0}, {"less_than": 0.0}


def claims(results: Results) -> Iterator[Claim]:
    """Yield the claims C1.1 to C1.5."""
    size = results.options.size
    least, most, usual = size.sparsities[0], size.sparsities[-1], size.sparsity
    for sparsity in [s for s in size.sparsities if s <= usual]:
        found = results.less(curve(sparsity), "dense")
        text = f"robust accuracy at {sparsity:.0%} sparsity less that of the dense network, points"
        yield Claim.bounded("C1.1", text, "not hurt: not below -1", found, at_least=-0.01)
    found = results.less(curve(most), curve(least))
    yield Claim.bounded("C1.1", f"and at {most:.0%} less that at {least:.0%}", "below 0", found, **BELOW)
    for name, bounds, said in (("sigma", BELOW, "below 0"), ("condition", ABOVE, "above 0")):
        for sparsity in (least, usual):
            what = "product of the layers' spectral norms" if name == "sigma" else "mean condition number"
            text = f"{what}, log10, at {sparsity:.0%} sparsity less that of the dense network"
            found = results.less(curve(sparsity), "dense", name)
            yield Claim.bounded("C1.2", text, said, found, scale=1, digits=2, **bounds)
    for source in size.sources:
        for ours, theirs in pairwise(MODES):
            text = f"{source}, {usual:.0%}: robust accuracy of {ours} weights less that of {theirs}, points"
            paper = "above 0" if ours == "continued" else "above 0 (Li et al. 2020: 0.47)"
            yield Claim.bounded("C1.3", text, paper, results.less(f"{source}, {ours}", f"{source}, {theirs}"), **ABOVE)
    text = f"{usual:.0%}: adversarial training before and after pruning less after it alone, points"
    yield Claim.bounded("C1.4", text, "above 0", results.less(curve(usual), "global, natural first"), **ABOVE)
    for name in [name for name in LARGE if name.startswith("IWI")]:
        for baseline in ("scratch, equal epochs", SCRATCH[name.split(", ")[1]]):
            text = f"robust accuracy of {name} less that of {', '.join(baseline.split(', ')[:2])}, points"
            yield Claim.bounded("C1.5", text, "above 0", results.less(name, baseline), **ABOVE)
    inherited, scratch = "IWI, pruned, rest zero", "scratch, equal epochs"
    text = f"Hoyer's sparsity of the weights of {inherited} less that of {scratch}"
    yield Claim.bounded("C1.5", text, "above 0", results.less(inherited, scratch, "hoyer"), scale=1, digits=3, **ABOVE)


SHOWN = (
    ("sparsity", 100, 1),
    ("clean_accuracy", 100, 1),
    ("robust_accuracy", 100, 1),
    ("hoyer", 1, 3),
    ("sigma", 1, 2),
    ("condition", 1, 2),
)


def networks(results: Results) -> str:
    """Write what was measured of each network, and where the curve over sparsity is highest."""
    rows = [
        (name, *(Mean(results.arm(name, value)).interval().text(scale, digits) for value, scale, digits in SHOWN))
        for name in experiments(results.options)[0].rows()
    ]
    sparsities = (0.0, *results.options.size.sparsities)
    by_seed = zip(*(results.arm(curve(sparsity)).values for sparsity in sparsities), strict=True)
    best = [max(zip(values, sparsities, strict=True))[1] for values in by_seed]
    headings = ("", "sparsity %", "clean %", "robust %", "Hoyer", "log10 sigma", "log10 condition")
    highest = ", ".join(f"{sparsity:.0%}" for sparsity in best)
    return f"{common.markdown(headings, rows)}\nHighest robust accuracy, by seed, at a sparsity of {highest}.\n"


def report(options: Namespace, bench: Bench) -> Iterator[str]:
    size, results = options.size, Results(options, bench)
    yield (
        f"{size.data}, {size.limit} training images of which {size.held} choose the epoch, "
        f"LeNet-{'-'.join(map(str, size.hidden))}, {size.epochs} epochs, {size.retrain_epochs} after a pruning, l_inf "
        f"0.1, PGD-20 on {size.examples} validation images, {options.seeds} seeds. Networks are inherited from at "
        f"{size.sparsity:.0%} sparsity. {common.READING}\n"
    )
    yield common.table(claims(results))
    yield networks(results)


def parsed(given: Sequence[str] | None = None) -> Namespace:
    return common.sized(__doc__, "wang2020", FULL, TINY, given)


if __name__ == "__main__":
    common.run(parsed(), trials, report)
