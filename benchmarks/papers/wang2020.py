"""The claims of Wang et al. 2020 (sparsity and robustness, inverse weights inheritance) at a size for one core.

MNIST (6,000 training images) with LeNet-100-50, adversarially trained at l_inf 0.1. All settings are ours, because we
know only the abstract of the paper. Against robust overfitting, every training returns its most robust epoch on 500
held-back training images. The network has no batch norm, so network slimming is not compared.

    python benchmarks/papers/wang2020.py --data DATA --output build/papers/wang2020.md
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import common
from common import Claim, Interval, interval, paired

from trainables.recipes.trial import TrialSpec
from trainables.store.records import Point

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


@dataclass(frozen=True, eq=False)
class Experiment:
    """All trials of one seed; each is run once, however often it is asked for."""

    size: Size
    data: Mapping[str, Any]
    folder: Path
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

    def small(self, sparsity: float, source: str = "global", mode: str = "continued", natural: bool = False) -> Point:
        """Return the small network of a source and a way to inherit; of sparsity 0, the dense one, trained as long."""
        if not sparsity:
            return self._last(sparsity=0.0, epochs=self.size.epochs + self.size.retrain_epochs)
        return self._last(sparsity=sparsity, small=source, weights=mode, natural_first=natural, large="none")

    def large(self, name: str) -> Point:
        """Return a large network by its name in the table."""
        if name == "scratch, equal compute, narrow":
            return self._last(sparsity=self.size.sparsity, small="narrow", large="equal_compute")
        return self._last(sparsity=self.size.sparsity, **LARGE[name])

    @cache  # noqa: B019 (an experiment lives as long as the script)
    def _last(self, **recipe: Any) -> Point:
        return common.points(self.trial(**recipe), self.folder)[-1]


def robust(point: Point) -> float:
    return point.robust_accuracy


def metric(name: str) -> Callable[[Point], float]:
    """Return what reads a metric; one that is not finite counts as infinite."""

    def value(point: Point) -> float:
        found = point.metrics[name]
        return math.inf if found is None else found

    return value


def less(
    experiments: Sequence[Experiment],
    ours: Callable[[Experiment], Point],
    theirs: Callable[[Experiment], Point],
    value: Callable[[Point], float] = robust,
) -> Interval:
    """Return the interval of the differences, seed by seed; without ends where one of them is not finite."""
    pairs = [(value(ours(e)), value(theirs(e))) for e in experiments]
    if not all(math.isfinite(number) for pair in pairs for number in pair):
        return Interval(math.nan, None, None, len(pairs))
    return paired(*zip(*pairs, strict=True))


def claims(experiments: Sequence[Experiment]) -> list[Claim]:
    """Judge the claims."""
    size = experiments[0].size
    least, most, usual = size.sparsities[0], size.sparsities[-1], size.sparsity
    judged = []
    for sparsity in [s for s in size.sparsities if s <= usual]:
        found = less(experiments, lambda e, s=sparsity: e.small(s), lambda e: e.small(0.0))
        text = f"robust accuracy at {sparsity:.0%} sparsity less that of the dense network, points"
        judged.append(Claim.judged("C1.1", text, "not hurt: not below -1", found, at_least=-0.01, scale=100))
    found = less(experiments, lambda e: e.small(most), lambda e: e.small(least))
    text = f"and at {most:.0%} less that at {least:.0%}"
    judged.append(Claim.judged("C1.1", text, "below 0", found, at_most=0.0, scale=100))
    for name, bounds, said in (("sigma", {"at_most": 0.0}, "below 0"), ("condition", {"at_least": 0.0}, "above 0")):
        for sparsity in (least, usual):
            found = less(experiments, lambda e, s=sparsity: e.small(s), lambda e: e.small(0.0), metric(name))
            what = "product of the layers' spectral norms" if name == "sigma" else "mean condition number"
            text = f"{what}, log10, at {sparsity:.0%} sparsity less that of the dense network"
            judged.append(Claim.judged("C1.2", text, said, found, **bounds, digits=2))
    for source in size.sources:
        for ours, theirs in pairwise(MODES):
            found = less(
                experiments,
                lambda e, s=source, mode=ours: e.small(usual, s, mode),
                lambda e, s=source, mode=theirs: e.small(usual, s, mode),
            )
            text = f"{source}, {usual:.0%}: robust accuracy of {ours} weights less that of {theirs}, points"
            paper = "above 0" if ours == "continued" else "above 0 (Li et al. 2020: 0.47)"
            judged.append(Claim.judged("C1.3", text, paper, found, at_least=0.0, scale=100))
    found = less(experiments, lambda e: e.small(usual), lambda e: e.small(usual, natural=True))
    text = f"{usual:.0%}: adversarial training before and after pruning less after it alone, points"
    judged.append(Claim.judged("C1.4", text, "above 0", found, at_least=0.0, scale=100))
    for name in [name for name in LARGE if name.startswith("IWI")]:
        kind = name.split(", ")[1]
        for baseline in ("scratch, equal epochs", SCRATCH[kind]):
            found = less(experiments, lambda e, n=name: e.large(n), lambda e, b=baseline: e.large(b))
            text = f"robust accuracy of {name} less that of {', '.join(baseline.split(', ')[:2])}, points"
            judged.append(Claim.judged("C1.5", text, "above 0", found, at_least=0.0, scale=100))
    inherited, scratch = "IWI, pruned, rest zero", "scratch, equal epochs"
    found = less(experiments, lambda e: e.large(inherited), lambda e: e.large(scratch), metric("hoyer"))
    text = f"Hoyer's sparsity of the weights of {inherited} less that of {scratch}"
    judged.append(Claim.judged("C1.5", text, "above 0", found, at_least=0.0, digits=3))
    return judged


def row(name: str, found: Sequence[Point]) -> tuple[str, ...]:
    """Write what was measured of a network."""

    def text(metric_name: str, digits: int) -> str:
        values = [metric(metric_name)(point) for point in found]
        return interval(values).text(digits=digits) if all(map(math.isfinite, values)) else "not finite"

    return (
        name,
        interval(point.sparsity for point in found).text(100),
        interval(point.clean_accuracy for point in found).text(100),
        interval(map(robust, found)).text(100),
        text("hoyer", 3),
        text("sigma", 2),
        text("condition", 2),
    )


def networks(experiments: Sequence[Experiment]) -> str:
    """Write what was measured of each network, and where the curve over sparsity is highest."""
    size = experiments[0].size
    curve = (0.0, *size.sparsities)
    rows = [row(f"pruned to {s:.0%}" if s else "dense", [e.small(s) for e in experiments]) for s in curve]
    for source in size.sources:
        for mode in MODES:
            rows.append(row(f"{source}, {mode}", [e.small(size.sparsity, source, mode) for e in experiments]))
    rows += [row(name, [e.large(name) for e in experiments]) for name in LARGE]
    best = [max(curve, key=lambda s, e=e: robust(e.small(s))) for e in experiments]
    headings = ("", "sparsity %", "clean %", "robust %", "Hoyer", "log10 sigma", "log10 condition")
    highest = ", ".join(f"{s:.0%}" for s in best)
    return f"{common.markdown(headings, rows)}\nHighest robust accuracy, by seed, at a sparsity of {highest}.\n"


def main() -> None:
    """Run all trials and print the tables."""
    options = common.arguments(__doc__, "wang2020").parse_args()
    size = TINY if options.tiny else FULL
    data = common.data(size.data, options.data, limit=size.limit, validation=max(size.examples, 100))
    folder = options.folder / ("tiny" if options.tiny else "full")
    experiments = [Experiment(size, data, folder, seed) for seed in range(options.seeds)]
    net = "-".join(map(str, size.hidden))
    about = (
        f"{size.data}, {size.limit} training images of which {size.held} choose the epoch, LeNet-{net}, "
        f"{size.epochs} epochs, {size.retrain_epochs} after a pruning, l_inf 0.1, PGD-20 on {size.examples} validation "
        f"images, {options.seeds} seeds, 95 % intervals. Networks are inherited from at {size.sparsity:.0%} sparsity."
    )
    common.tell(f"{about}\n\n{common.table(claims(experiments))}\n{networks(experiments)}", options.output)


if __name__ == "__main__":
    main()
