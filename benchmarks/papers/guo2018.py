"""Guo et al. 2018: are naturally trained networks more robust when they are sparse?

    python benchmarks/papers/guo2018.py --data DATA            # linear, LeNet-300-100, controls; minutes
    python benchmarks/papers/guo2018.py --data DATA --parts all      # LeNet-5, activations and adversarial training too
    python benchmarks/papers/guo2018.py --tiny                 # a dry run on digits

We know no number of the paper, so claims are about the direction; bounds are ours. Shortened: 3 seeds instead of 10,
`--images` training images, `--epochs` of them and half as many per round, distances of `--examples` validation images.
CIFAR-10 networks (G4) are not run. r_inf is the accuracy under an attack of radius 0.1. r_2 is the mean l2 distance of
the shorter of the results of DeepFool and Carlini-Wagner, 0 for misclassified images; its interval is over seeds alone,
for the images that all networks share. A claim about "some" sparsity tries all of them, each with its condition.

Results are stored in `--folder`. Run again, the script resumes, and prints at once what is stored.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# A script's folder comes first on the path; the project's comes before what is installed.
sys.path.insert(0, str(Path(__file__).parents[2]))

import common
from common import Arm, Bench, Claim, Points, TrialSpec

from search.results.verdicts import Bound, Difference, Every, Mean, Some

SPARSITIES = (0.0, 0.5, 0.75, 0.875, 0.9375, 0.96875, 0.984375)
PARTS = ("linear", "lenet300", "lenet5", "controls", "activations", "adversarial")
DEFAULT = ("linear", "lenet300", "controls")
LEVELS = range(1, len(SPARSITIES))
"""The sparse ones."""
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


LOSS = 0.003
"""Of clean accuracy, which a gain may cost."""


@dataclass(frozen=True)
class Net:
    """A network and how it is trained: `recipe` has fields of the recipe, `data` and `train` some of those."""

    title: str
    model: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    train: dict[str, Any]

    @classmethod
    def of(
        cls,
        title: str,
        model: str | dict[str, Any] = "lenet300",
        *,
        data: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        **recipe: Any,
    ) -> Net:
        return cls(title, NETS[model] if isinstance(model, str) else model, recipe, data or {}, train or {})

    def trial(self, options: Namespace, seed: int) -> TrialSpec:
        """Return the trial of one seed: dense, and at each sparsity, by global magnitude if nothing else is said."""
        tiny = options.tiny
        images = {"limit": 100, "validation": 60} if tiny else {"limit": options.images, "validation": 5000}
        images |= {name: value for name, value in self.data.items() if name == "select" or not tiny}
        settings: dict[str, Any] = {"batch": 100, "eps": EPS, **self.train}
        rounds = {"epochs": options.epochs, "retrain_epochs": max(1, options.epochs // 2), "retrain_lr": 0.01}
        model = NETS["lenet300"] if tiny and self.model == NETS["lenet5"] else self.model
        return TrialSpec.model_validate(
            {
                "data": common.data("digits" if tiny else "mnist", options.data, **images),
                "model": model,
                "recipe": {
                    "kind": "guo2018",
                    "sparsity": SPARSITIES[-1],
                    "train": settings,
                    **rounds,
                    **self.recipe,
                },
                "protocol": {
                    "eps": EPS,
                    "attack": {"kind": "pgd", "steps": 100},
                    "examples": 60 if tiny else 1000,
                    "metrics": [
                        {"kind": "distance", "examples": options.examples, **(QUICK if tiny else {})},
                        {"kind": "lipschitz", "examples": options.examples, "samples": 0 if tiny else 10},
                        "activations",
                        {"kind": "attacked", "name": "fgsm", "attack": FGSM},
                        {"kind": "attacked", "name": "rfgsm", "attack": "rfgsm"},
                        {"kind": "attacked", "name": "strong", "attack": STRONG},
                    ],
                },
                "seed": seed,
            }
        )


LINEAR = Net.of(
    "Logistic regression, MNIST 1 versus 7",
    "linear",
    data={"select": (1, 7), "validation": 2000, "limit": None},
)
LENET300 = Net.of("lenet300, MNIST, magnitude")
LENET5 = Net.of("lenet5, MNIST, magnitude", "lenet5")
RANDOM = Net.of("lenet300, MNIST, random masks", prune={"pruner": "random"})
SPARSE_ACTIVATIONS = {
    "l1 of activations 0.001": Net.of("lenet300, MNIST, l1 of activations 0.001", train={"activation_l1": 1e-3}),
    "the largest tenth of activations": Net.of(
        "lenet300, MNIST, the largest tenth of activations", {"kind": "lenet300", "active": 0.1}
    ),
}
ADVERSARIAL = Net.of("lenet300, MNIST, adversarial training (PGD-7)", train={"loss": "madry"})
RUN: dict[str, tuple[Net, ...]] = {
    "linear": (LINEAR,),
    "lenet300": (LENET300,),
    "lenet5": (LENET5,),
    "controls": (RANDOM,),
    "activations": (LENET300, *SPARSE_ACTIVATIONS.values()),
    "adversarial": (ADVERSARIAL,),
}
"""The networks of each part."""


def trials(options: Namespace) -> Iterator[TrialSpec]:
    """Yield all trials, all of a seed before the next one."""
    for seed in range(options.seeds):
        for part in options.parts:
            yield from (net.trial(options, seed) for net in RUN[part])


@dataclass(frozen=True)
class Results:
    """What was measured."""

    options: Namespace
    bench: Bench

    def points(self, net: Net) -> list[Points]:
        """Return the points of all seeds."""
        return [self.bench.points(net.trial(self.options, seed)) for seed in range(self.options.seeds)]

    def arm(self, net: Net, level: int, name: str) -> Arm:
        """Return a number of one level: an accuracy, or a metric."""
        at_level = [points[level] for points in self.points(net)]
        return common.arm(at_level, name, common.chance(net.trial(self.options, 0)))

    def change(self, net: Net, level: int, name: str, *, relative: bool = False) -> Difference:
        """Return the difference of a level to the dense net."""
        return Difference(self.arm(net, level, name), self.arm(net, 0, name), relative=relative)

    def changes(self, net: Net, name: str, *, relative: bool = False) -> list[Difference]:
        """Return the differences of all sparse levels."""
        return [self.change(net, level, name, relative=relative) for level in LEVELS]


def highest(changes: Sequence[Difference]) -> int:
    """Return the level with the greatest change, of those from level 1 on."""
    return 1 + max(range(len(changes)), key=lambda index: changes[index].interval().mean)


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


def shown(results: Results, net: Net) -> str:
    """Return a table of all levels."""
    more = (("zeros", "zero activations", 100, 1),) if net in SPARSE_ACTIVATIONS.values() else ()
    columns = (*SHOWN, *more)
    rows = []
    for level, sparsity in enumerate(SPARSITIES):
        cells = (Mean(results.arm(net, level, n)).interval().text(scale, digits) for n, _, scale, digits in columns)
        rows.append((f"{100 * sparsity:.4g}", *cells))
    headings = ("sparsity %", *(heading for _, heading, _, _ in columns))
    return f"{net.title}\n\n{common.markdown(headings, rows)}"


def claims(results: Results) -> Iterator[Claim]:
    """Yield the claims G1 to G8."""
    parts = results.options.parts
    yield from _linear(results)
    for name, net in (("lenet300", LENET300), ("lenet5", LENET5)):
        yield from _nonlinear(results, name, net) if name in parts else _nothing(name)
    yield Claim("G4", "CIFAR-10, VGG-like: r_2 rises; ResNet-32: hardly", "direction (recalled)")
    yield from _lipschitz(results)
    yield from _activations(results)
    yield from _beyond(results)


def at(level: int) -> str:
    return f"at {100 * SPARSITIES[level]:.4g} %"


def _linear(results: Results) -> Iterator[Claim]:
    rises = ("G1a", "1 versus 7, linear: r_inf (FGSM) rises with sparsity, by 2 points or more at the best", "rises")
    falls = ("G1b", "1 versus 7, linear: r_2 does not rise, at any sparsity", "dense near the best")
    if "linear" not in results.options.parts:
        yield from (Claim(*rises), Claim(*falls))
        return
    changes = results.changes(LINEAR, "fgsm_accuracy")
    level = highest(changes)
    most = changes[level - 1].interval(among=len(changes))
    gains = Some(tuple(Bound(change, at_least=0.02) for change in changes))
    yield Claim(*rises, f"{most.text(100)} points {at(level)}", most.size(), gains)
    changes = results.changes(LINEAR, "r_2", relative=True)
    level = highest(changes)
    most = changes[level - 1].interval()
    yield Claim(
        *falls,
        f"most {most.text(100)} % {at(level)}",
        most.size(),
        Every(tuple(Bound(change, at_most=0) for change in changes)),
    )


def _texts(name: str) -> tuple[tuple[str, str, str], ...]:
    return (
        ("G2", f"{name}: r_2 is 5 % higher or more at some sparsity, at a loss below 0.3 points", "rises"),
        ("G3", f"{name}: so is r_inf, FGSM and rFGSM, at the same condition", "rises"),
        ("G3x", f"{name}: so is r_inf at some sparsity, whatever the loss", "not claimed"),
        ("G5", f"{name}: at some sparsity r_2 is down 10 % and accuracy not 0.5 points", "r_2 falls first"),
    )


def _nothing(name: str) -> Iterator[Claim]:
    yield from (Claim(*texts) for texts in _texts(name))


def _nonlinear(results: Results, name: str, net: Net) -> Iterator[Claim]:
    r_2 = results.changes(net, "r_2", relative=True)
    r_inf = {attack: results.changes(net, f"{attack}_accuracy", relative=True) for attack in ("fgsm", "rfgsm")}
    losses = results.changes(net, "clean_accuracy")
    cheap = [Bound(loss, more_than=-LOSS) for loss in losses]
    g2, g3, g3x, g5 = _texts(name)

    def found(changes: list[Difference], level: int) -> str:
        gain, loss = changes[level - 1].interval(among=len(changes)), losses[level - 1].interval(among=len(changes))
        return f"{gain.text(100)} %, accuracy {loss.text(100, 2)} points, {at(level)}"

    gains = Some(tuple(Every((Bound(r_2[n - 1], at_least=0.05), cheap[n - 1])) for n in LEVELS))
    yield Claim(*g2, found(r_2, highest(r_2)), r_2[0].interval().size(), gains)
    # The sparsest that seems to meet the condition: where r_inf should rise most.
    allowed = [level for level in LEVELS if losses[level - 1].interval().mean > -LOSS] or [1]
    ours = "; ".join(f"{attack} {found(changes, allowed[-1])}" for attack, changes in r_inf.items())
    both = [[Bound(changes[n - 1], at_least=0.05) for changes in r_inf.values()] for n in LEVELS]
    size = r_inf["fgsm"][0].interval().size()
    yield Claim(
        *g3, ours, size, Some(tuple(Every((*gain, cheap[n - 1])) for n, gain in zip(LEVELS, both, strict=True)))
    )
    ours = "; ".join(f"{attack} {found(changes, highest(changes))}" for attack, changes in r_inf.items())
    yield Claim(*g3x, ours, size, Some(tuple(Every(tuple(gain)) for gain in both)))
    first = next((n for n in LEVELS if r_2[n - 1].interval().mean <= -0.1), LEVELS[-1])
    falls = Some(tuple(Every((Bound(r_2[n - 1], at_most=-0.1), Bound(losses[n - 1], at_least=-0.005))) for n in LEVELS))
    yield Claim(*g5, f"r_2 {found(r_2, first)}", r_2[0].interval().size(), falls)


def _lipschitz(results: Results) -> Iterator[Claim]:
    parts = results.options.parts
    found = {"magnitude": ("lenet300", LENET300), "random masks": ("controls", RANDOM)}
    for id, (name, (part, net)) in zip(("G6a", "G6b"), found.items(), strict=True):
        text = f"lenet300, {name}: the Jacobian's norms fall with sparsity, at every step to 93.75 %"
        if part not in parts:
            yield Claim(id, text, "the bound falls")
            continue
        arms = [[results.arm(net, level, norm) for level in range(5)] for norm in ("jacobian_l1", "jacobian_l2")]
        steps = [Difference(arm[level], arm[level - 1]) for arm in arms for level in range(1, 5)]
        whole = [Difference(arm[4], arm[0], relative=True).interval() for arm in arms]
        ours = f"l1 {whole[0].text(100)} %, l2 {whole[1].text(100)} % to 93.75 %"
        falls = Every(tuple(Bound(step, less_than=0) for step in steps))
        yield Claim(id, text, "the bound falls", ours, whole[0].size(), falls)
    text = "lenet300: random masks raise r_2 as well"
    yield _some(results, "G6c", text, "what the theorem is about", "controls", RANDOM, "r_2")


def _some(results: Results, id: str, text: str, paper: str, part: str, net: Net, name: str) -> Claim:
    """Return the claim that a number rises at some sparsity; r_2 in percent of the dense net's."""
    if part not in results.options.parts:
        return Claim(id, text, paper)
    changes = results.changes(net, name, relative=name == "r_2")
    level = highest(changes)
    most = changes[level - 1].interval(among=len(changes))
    unit = "%" if name == "r_2" else "points"
    rises = Some(tuple(Bound(change, more_than=0) for change in changes))
    return Claim(id, text, paper, f"most {most.text(100)} {unit} {at(level)}", most.size(), rises)


def _activations(results: Results) -> Iterator[Claim]:
    if "activations" not in results.options.parts:
        yield Claim("G7", "lenet300: sparse activations raise r_2 of the dense net", "rises (sign only)")
        return
    dense = results.arm(LENET300, 0, "r_2")
    for title, net in SPARSE_ACTIVATIONS.items():
        gain = Difference(results.arm(net, 0, "r_2"), dense)
        text = f"lenet300: {title}: r_2 of the dense net rises"
        statement = Bound(gain, more_than=0)
        yield Claim.about("G7", text, "rises (sign only)", gain.interval(), statement, scale=1, digits=3)


def _beyond(results: Results) -> Iterator[Claim]:
    rises = partial(_some, results, paper="open", name="robust_accuracy")
    yield rises(id="G8a", text="lenet300: accuracy under PGD-100 rises at some sparsity", part="lenet300", net=LENET300)
    text = "lenet300, adversarially trained: so it does"
    yield rises(id="G8b", text=text, part="adversarial", net=ADVERSARIAL)


def report(options: Namespace, bench: Bench) -> Iterator[str]:
    results = Results(options, bench)
    yield (
        f"Guo 2018: {options.epochs} epochs of {options.images} images, {options.seeds} seeds, "
        f"{options.examples} distances.\n"
    )
    nets = {net.title: net for part in options.parts for net in RUN[part]}
    yield from (shown(results, net) for net in nets.values())
    yield f"{common.READING}\n"
    yield common.table(claims(results))


def parsed(given: Sequence[str] | None = None) -> Namespace:
    parser = common.arguments(__doc__, "guo2018")
    parser.add_argument("--epochs", type=int, default=10, help="of the dense training; a round has half as many")
    parser.add_argument("--images", type=int, default=20_000, help="of the training split")
    parser.add_argument("--examples", type=int, default=100, help="whose distances are measured")
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, "all"), default=list(DEFAULT))
    options = parser.parse_args(given)
    if "all" in options.parts or options.tiny:
        options.parts = list(PARTS)
    if options.tiny:
        options.epochs, options.examples, options.folder = 2, 10, options.folder / "tiny"
    return options


if __name__ == "__main__":
    common.run(parsed(), trials, report)
