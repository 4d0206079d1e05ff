"""Guo et al. 2018: are naturally trained networks more robust when they are sparse?

    python benchmarks/papers/guo2018.py --data DATA            # linear, LeNet-300-100, controls; minutes
    python benchmarks/papers/guo2018.py --data DATA --parts all      # LeNet-5, activations and adversarial training too
    python benchmarks/papers/guo2018.py --tiny                 # a dry run on digits

We know no number of the paper, so claims are about the direction; bounds are ours. Shortened: 3 seeds instead of 10,
`--images` training images, `--epochs` of them and half as many per round, distances of `--examples` validation images.
CIFAR-10 networks (G4) are not run. r_inf is the accuracy under an attack of radius 0.1. r_2 is the mean l2 distance of
the shorter of the results of DeepFool and Carlini-Wagner, 0 for misclassified images. "Best" is the sparsity with the
highest mean; the claim is then judged on the same numbers.

Results are stored in `--folder`. Run again, the script resumes, and prints at once what is stored.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A script's folder comes first on the path; the project's comes before what is installed.
sys.path.insert(0, str(Path(__file__).parents[2]))

import common
from common import Claim, Interval, interval, paired, together, verdict

from trainables.recipes.trial import TrialSpec
from trainables.store.records import Point

SPARSITIES = (0.0, 0.5, 0.75, 0.875, 0.9375, 0.96875, 0.984375)
PARTS = ("linear", "lenet300", "lenet5", "controls", "activations", "adversarial")
DEFAULT = ("linear", "lenet300", "controls")
NETS: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear"},
    "lenet300": {"kind": "lenet300"},
    "lenet5": {"kind": "lenet5"},
}
EPS = 0.1
QUICK = {"attacks": ["deepfool", {"kind": "cw", "steps": 20, "searches": 2, "constant": 1.0}]}
STRONG = {
    "kind": "worst",
    "attacks": [
        {"kind": "apgd-ce", "steps": 20},
        {"kind": "apgd-t", "steps": 20, "targets": 4},
        {"kind": "square", "queries": 1000, "rescale": True},
    ],
}
"""Activations that are cut to the largest hide gradients from PGD."""
FGSM = {"kind": "fgsm", "random_start": False, "step_size": 1.0}


@dataclass(frozen=True)
class Bench:
    """What is run, and where."""

    options: Namespace
    _known: dict[str, tuple[Point, ...]] = field(default_factory=dict)

    def chains(self, name: str, model: dict[str, Any], **changes: Any) -> list[tuple[Point, ...]]:
        """Return the points of each seed: dense, and at each sparsity. `name` is of what `model` and `changes` are."""
        return [self._chain(f"{name} {seed}", model, seed, changes) for seed in range(self.options.seeds)]

    def net(self, name: str, **changes: Any) -> list[tuple[Point, ...]]:
        """Return the points of one of the nets, pruned globally by magnitude if nothing else is said."""
        return self.chains(f"{name} {changes}", NETS["lenet300" if self.options.tiny else name], **changes)

    def linear(self) -> list[tuple[Point, ...]]:
        """Return those of logistic regression on 1 versus 7."""
        chosen = {"select": (1, 7)} if self.options.tiny else {"select": (1, 7), "validation": 2000, "limit": None}
        return self.chains("linear", NETS["linear"], data=chosen)

    def _chain(self, name: str, model: dict[str, Any], seed: int, changes: dict[str, Any]) -> tuple[Point, ...]:
        if name not in self._known:
            trial = self._trial(model, seed, **changes)
            self._known[name] = common.points(TrialSpec.model_validate(trial), self.options.folder)
        return self._known[name]

    def _trial(
        self,
        model: dict[str, Any],
        seed: int,
        data: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        **recipe: Any,
    ) -> dict[str, Any]:
        options = self.options
        kind = "digits" if options.tiny else "mnist"
        images = {"limit": 100, "validation": 60} if options.tiny else {"limit": options.images, "validation": 5000}
        settings: dict[str, Any] = {"batch": 100, "eps": EPS, **(train or {})}
        rounds = {"epochs": options.epochs, "retrain_epochs": max(1, options.epochs // 2), "retrain_lr": 0.01}
        return {
            "data": common.data(kind, options.data, **{**images, **(data or {})}),
            "model": model,
            "recipe": {"kind": "guo2018", "sparsity": SPARSITIES[-1], "train": settings, **rounds, **recipe},
            "protocol": {
                "eps": EPS,
                "attack": {"kind": "pgd", "steps": 100},
                "examples": 60 if options.tiny else 1000,
                "metrics": [
                    {"kind": "distance", "examples": options.examples, **(QUICK if options.tiny else {})},
                    {"kind": "lipschitz", "examples": options.examples, "samples": 0 if options.tiny else 10},
                    "activations",
                    {"kind": "attacked", "name": "fgsm", "attack": FGSM},
                    {"kind": "attacked", "name": "rfgsm", "attack": "rfgsm"},
                    {"kind": "attacked", "name": "strong", "attack": STRONG},
                ],
            },
            "seed": seed,
        }


def number(point: Point, name: str) -> float:
    """Return what a point has under a name: an accuracy, or a metric."""
    if name in ("clean_accuracy", "robust_accuracy"):
        return float(getattr(point, name))
    value = point.metrics[name]
    return float("nan") if value is None else float(value)


def column(chains: list[tuple[Point, ...]], level: int, name: str) -> list[float]:
    """Return a number of one level, by seed."""
    return [number(chain[level], name) for chain in chains]


def change(chains: list[tuple[Point, ...]], level: int, name: str) -> Interval:
    """Return the change to a level from the dense net, relative to the dense net's mean, over the seeds."""
    dense = column(chains, 0, name)
    found = paired(column(chains, level, name), dense)
    mean = abs(interval(dense).mean) or 1.0
    low, high = (None if end is None else end / mean for end in (found.low, found.high))
    return Interval(found.mean / mean, low, high, found.n)


def best(chains: list[tuple[Point, ...]], name: str) -> int:
    """Return the sparse level with the highest mean."""
    return max(range(1, len(SPARSITIES)), key=lambda level: sum(column(chains, level, name)))


SHOWN = (
    ("clean_accuracy", "clean", 100, 2),
    ("robust_accuracy", "PGD-100", 100, 1),
    ("strong_accuracy", "APGD, Square", 100, 1),
    ("fgsm_accuracy", "r_inf FGSM", 100, 1),
    ("rfgsm_accuracy", "r_inf rFGSM", 100, 1),
    ("r_2", "r_2", 1, 3),
    ("r_2_correct", "r_2 of the correct", 1, 3),
    ("jacobian_l1", "Jacobian l1", 1, 1),
    ("jacobian_l2", "Jacobian l2", 1, 2),
    ("margin", "margin", 1, 2),
    ("logit_norm", "log logit norm", 1, 2),
)


def shown(title: str, chains: list[tuple[Point, ...]], more: tuple[tuple[str, str, int, int], ...] = ()) -> str:
    """Return a table of all levels."""
    columns = (*SHOWN, *more)
    rows = []
    for level, sparsity in enumerate(SPARSITIES):
        cells = (interval(column(chains, level, n)).text(scale, digits) for n, _, scale, digits in columns)
        rows.append((f"{100 * sparsity:.4g}", *cells))
    headings = ("sparsity %", *(heading for _, heading, _, _ in columns))
    return f"{title}\n\n{common.markdown(headings, rows)}"


def results(bench: Bench) -> Iterator[str]:
    """Yield a table of each part that is run."""
    parts = bench.options.parts
    if "linear" in parts:
        yield shown("Logistic regression, MNIST 1 versus 7", bench.linear())
    for name in ("lenet300", "lenet5"):
        if name in parts:
            yield shown(f"{name}, MNIST, magnitude", bench.net(name))
    if "controls" in parts:
        yield shown("lenet300, MNIST, random masks", bench.net("lenet300", **RANDOM))
    if "activations" in parts:
        zeros = (("zeros", "zero activations", 100, 1),)
        for title, chains in sparse_activations(bench).items():
            yield shown(f"lenet300, MNIST, {title}", chains, zeros)
    if "adversarial" in parts:
        yield shown("lenet300, MNIST, adversarial training (PGD-7)", bench.net("lenet300", **ADVERSARIAL))


RANDOM: dict[str, Any] = {"prune": {"pruner": "random"}}
ADVERSARIAL: dict[str, Any] = {"train": {"loss": "madry"}}


def sparse_activations(bench: Bench) -> dict[str, list[tuple[Point, ...]]]:
    """Return the nets with sparse activations, by what makes them so."""
    top = {"kind": "lenet300", "active": 0.1}
    return {
        "l1 of activations 0.001": bench.net("lenet300", train={"activation_l1": 1e-3}),
        "the largest tenth of activations": bench.chains("top", top),
    }


def untested(id: str, text: str, paper: str) -> Claim:
    return Claim(id, text, paper, "", None, None, "not tested")


def claims(bench: Bench) -> Iterator[Claim]:
    """Yield the claims G1 to G8."""
    parts = bench.options.parts
    yield from _linear(bench)
    for name in ("lenet300", "lenet5"):
        yield from _nonlinear(bench, name) if name in parts else _nothing(name)
    yield untested("G4", "CIFAR-10, VGG-like: r_2 rises; ResNet-32: hardly", "direction (recalled)")
    yield from _lipschitz(bench)
    yield from _activations(bench)
    yield from _beyond(bench)


def _linear(bench: Bench) -> Iterator[Claim]:
    rises = ("G1a", "1 versus 7, linear: r_inf (FGSM) rises with sparsity, by 2 points or more at the best", "rises")
    falls = ("G1b", "1 versus 7, linear: r_2 does not rise, at the same sparsity", "dense near the best")
    if "linear" not in bench.options.parts:
        yield untested(*rises)
        yield untested(*falls)
        return
    chains = bench.linear()
    level = best(chains, "fgsm_accuracy")
    gain = paired(column(chains, level, "fgsm_accuracy"), column(chains, 0, "fgsm_accuracy"))
    ours = f"{gain.text(100)} points at {100 * SPARSITIES[level]:.4g} %"
    yield Claim(*rises, ours, gain.low, gain.high, verdict(gain, at_least=0.02))
    r_2 = change(chains, level, "r_2")
    yield Claim(*falls, f"{r_2.text(100)} %", r_2.low, r_2.high, verdict(r_2, at_most=0))


def _nothing(name: str) -> Iterator[Claim]:
    yield untested("G2", f"{name}: r_2 is 5 % higher or more at some sparsity, at a loss below 0.3 points", "rises")
    yield untested("G3", f"{name}: so is r_inf, FGSM and rFGSM", "rises")
    yield untested("G5", f"{name}: r_2 is down 10 % where accuracy is not down 0.5 points", "r_2 falls first")


def _nonlinear(bench: Bench, name: str) -> Iterator[Claim]:
    chains = bench.net(name)
    level = best(chains, "r_2")
    gain = change(chains, level, "r_2")
    loss = paired(column(chains, level, "clean_accuracy"), column(chains, 0, "clean_accuracy"))
    text = f"{name}: r_2 is 5 % higher or more at some sparsity, at a loss below 0.3 points"
    ours = f"{gain.text(100)} %, accuracy {loss.text(100, 2)} points, at {100 * SPARSITIES[level]:.4g} %"
    judged = together([verdict(gain, at_least=0.05), verdict(loss, at_least=-0.003)])
    yield Claim("G2", text, "rises", ours, gain.low, gain.high, judged)
    gains = []
    for attack in ("fgsm", "rfgsm"):
        level = best(chains, f"{attack}_accuracy")
        gains.append((attack, level, change(chains, level, f"{attack}_accuracy")))
    ours = "; ".join(f"{a} {g.text(100)} % at {100 * SPARSITIES[n]:.4g} %" for a, n, g in gains)
    judged = together([verdict(found, at_least=0.05) for _, _, found in gains])
    yield Claim("G3", f"{name}: so is r_inf, FGSM and rFGSM", "rises", ours, gains[0][2].low, gains[0][2].high, judged)
    yield _over_pruned(name, chains)


def _over_pruned(name: str, chains: list[tuple[Point, ...]]) -> Claim:
    """Judge whether, at the first sparsity where r_2 is down by 10 %, accuracy is not yet down by half a point."""
    text, paper = f"{name}: r_2 is down 10 % where accuracy is not down 0.5 points", "r_2 falls first"
    for level in range(1, len(SPARSITIES)):
        fall = change(chains, level, "r_2")
        if fall.mean <= -0.1:
            loss = paired(column(chains, level, "clean_accuracy"), column(chains, 0, "clean_accuracy"))
            ours = f"r_2 {fall.text(100)} %, accuracy {loss.text(100, 2)} points, at {100 * SPARSITIES[level]:.4g} %"
            judged = together([verdict(fall, at_most=-0.1), verdict(loss, at_least=-0.005)])
            return Claim("G5", text, paper, ours, fall.low, fall.high, judged)
    return Claim(
        "G5", text, paper, f"r_2 falls nowhere so far, to {100 * SPARSITIES[-1]:.4g} %", None, None, "does not"
    )


def _lipschitz(bench: Bench) -> Iterator[Claim]:
    found = {"magnitude": ("lenet300", {}), "random masks": ("controls", RANDOM)}
    for id, (name, (part, changes)) in zip(("G6a", "G6b"), found.items(), strict=True):
        text = f"lenet300, {name}: the Jacobian's norms fall with sparsity, at every step to 93.75 %"
        if part not in bench.options.parts:
            yield untested(id, text, "the bound falls")
            continue
        chains = bench.net("lenet300", **changes)
        steps = [
            paired(column(chains, level, norm), column(chains, level - 1, norm))
            for norm in ("jacobian_l1", "jacobian_l2")
            for level in range(1, 5)
        ]
        whole = [change(chains, 4, norm) for norm in ("jacobian_l1", "jacobian_l2")]
        ours = f"l1 {whole[0].text(100)} %, l2 {whole[1].text(100)} % to 93.75 %"
        judged = together([verdict(step, at_most=0) for step in steps])
        yield Claim(id, text, "the bound falls", ours, whole[0].low, whole[0].high, judged)
    text = "lenet300: random masks raise r_2 as well"
    if "controls" not in bench.options.parts:
        yield untested("G6c", text, "what the theorem is about")
        return
    chains = bench.net("lenet300", **RANDOM)
    gain = change(chains, best(chains, "r_2"), "r_2")
    yield Claim.judged("G6c", text, "what the theorem is about", gain, at_least=0, scale=100)


def _activations(bench: Bench) -> Iterator[Claim]:
    if "activations" not in bench.options.parts:
        yield untested("G7", "lenet300: sparse activations raise r_2 of the dense net", "rises (sign only)")
        return
    dense = column(bench.net("lenet300"), 0, "r_2")
    for title, chains in sparse_activations(bench).items():
        gain = paired(column(chains, 0, "r_2"), dense)
        text = f"lenet300: {title}: r_2 of the dense net rises"
        yield Claim.judged("G7", text, "rises (sign only)", gain, at_least=0, digits=3)


def _beyond(bench: Bench) -> Iterator[Claim]:
    text = "lenet300: accuracy under PGD-100 rises at some sparsity"
    if "lenet300" in bench.options.parts:
        chains = bench.net("lenet300")
        level = best(chains, "robust_accuracy")
        gain = paired(column(chains, level, "robust_accuracy"), column(chains, 0, "robust_accuracy"))
        yield Claim.judged("G8a", text, "open", gain, at_least=0, scale=100)
    else:
        yield untested("G8a", text, "open")
    text = "lenet300, adversarially trained: so it does"
    if "adversarial" in bench.options.parts:
        chains = bench.net("lenet300", **ADVERSARIAL)
        level = best(chains, "robust_accuracy")
        gain = paired(column(chains, level, "robust_accuracy"), column(chains, 0, "robust_accuracy"))
        yield Claim.judged("G8b", text, "open", gain, at_least=0, scale=100)
    else:
        yield untested("G8b", text, "open")


def main() -> None:
    parser = common.arguments(__doc__, "guo2018")
    parser.add_argument("--epochs", type=int, default=10, help="of the dense training; a round has half as many")
    parser.add_argument("--images", type=int, default=20_000, help="of the training split")
    parser.add_argument("--examples", type=int, default=100, help="whose distances are measured")
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, "all"), default=list(DEFAULT))
    options = parser.parse_args()
    if "all" in options.parts or options.tiny:
        options.parts = list(PARTS)
    if options.tiny:
        options.epochs, options.examples, options.folder = 2, 10, options.folder / "tiny"
    bench = Bench(options)
    set_out = f"{options.epochs} epochs of {options.images} images, {options.seeds} seeds, {options.examples} distances"
    text = "\n".join([f"Guo 2018: {set_out}.\n", *results(bench), common.table(claims(bench))])
    common.tell(text, options.output)


if __name__ == "__main__":
    main()
