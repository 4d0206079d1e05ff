"""Cosentino et al. 2019: does a robust network become more robust as it gets sparser, and what does that depend on?

    python benchmarks/papers/cosentino2019.py --data DATA                # MNIST, PGD, for the first claims
    python benchmarks/papers/cosentino2019.py --data DATA --parts all --sets mnist fashion_mnist --attacks pgd fgsm
    python benchmarks/papers/cosentino2019.py --tiny                     # a dry run on digits

The network, the rates, the loss and the attacks are the paper's. Shortened: `--epochs` of `--images` images for each
training (the paper: 60 of 50,000, 50,040 steps; by default 1,000 steps, a fiftieth), trainings only after the 5
reported rounds of 18, so that a chain has a 158th of the paper's steps and other masks than with all 18, 3 seeds
instead of 5, and `--examples` validation images instead of 10,000 test images. Every number is from the end of a
training. "as published" is the attack of the training, on the labels that the network itself predicts; "PGD-40" is on
true labels.

Results are stored in `--folder`. Run again, the script resumes, and prints at once what is stored.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# A script's folder comes first on the path; the project's comes before what is installed.
sys.path.insert(0, str(Path(__file__).parents[2]))

import common
from common import Arm, Bench, Claim, Point, Points, TrialSpec

from search.results.verdicts import Bound, Difference, Every, Mean, Some

ROUNDS = (3, 8, 11, 15, 18)
REMAINING = (100.0, 51.28, 16.87, 8.67, 3.58, 1.84)
"""Percent of the weights at the dense net and after these rounds, as the paper's code leaves them."""
NAMES = ("100", "51.3", "16.9", "8.7", "3.6", "1.8")
ATTACKS: dict[str, dict[str, Any]] = {
    "pgd": {"kind": "pgd", "steps": 10, "step_size": 1 / 6},
    "fgsm": {"kind": "fgsm", "random_start": False, "step_size": 1.0},
}
PUBLISHED = {
    ("mnist", "pgd"): (45.32, 60.14, 59.91, 57.60, 48.81, 38.23),
    ("mnist", "fgsm"): (94.30, 97.09, 97.46, 97.02, 95.23, 90.15),
    ("fashion_mnist", "pgd"): (24.67, 28.66, 27.62, 25.75, 23.83, 23.46),
    ("fashion_mnist", "fgsm"): (86.96, 86.79, 86.53, 85.30, 82.30, 78.07),
}
"""Accuracy under the attack trained against, percent; tables 1 and 2."""
STRATEGIES = ("init", "dense_trained", "random", "none")
PARTS = ("tables", "natural", "strategies", "controls")
WEIGHTS = 266_200
LEVELS = range(1, len(NAMES))
"""The sparse ones."""


@dataclass(frozen=True)
class Setting:
    """What is run: a data set, the attack of the training, and what is changed from the paper."""

    data: str
    attack: str = "pgd"
    loss: str = "mix"
    rewind: str = "init"
    pruner: str = "magnitude"
    hidden: tuple[int, ...] = (300, 100)
    sparsity: float = 1 - REMAINING[-1] / 100

    def trial(self, options: Namespace, seed: int) -> TrialSpec:
        """Return the trial of one seed: the dense net and those after the reported rounds."""
        tiny = options.tiny
        images = {"limit": 200, "validation": 300} if tiny else {"limit": options.images, "validation": 10_000}
        recipe = {
            "kind": "cosentino2019",
            "sparsity": self.sparsity,
            "epochs": options.epochs,
            "retrain": ROUNDS,
            "rewind": self.rewind,
            "pruner": self.pruner,
            # The attack matters to no weight of a natural training: one for both shares them.
            "train": {
                "attack": ATTACKS["pgd" if self.loss == "natural" else self.attack],
                "loss": self.loss,
                "validate_on": 500,
            },
        }
        attacked = [{"kind": "attacked", "name": n, "attack": a, "labels": "predicted"} for n, a in ATTACKS.items()]
        model = {"kind": "lenet300", "hidden": self.hidden, "bias": False, "init": "glorot_uniform", "normalise": False}
        return TrialSpec.model_validate(
            {
                "data": common.data("digits" if tiny else self.data, options.data, **images),
                "model": model,
                "recipe": recipe,
                "protocol": {
                    "eps": 0.3,
                    "attack": {"kind": "pgd", "steps": 40},
                    "examples": min(options.examples, 300) if tiny else options.examples,
                    "metrics": ["early_stop", *attacked],
                },
                "seed": seed,
            }
        )


@cache
def small_hidden(weights: float) -> tuple[int, int]:
    """Return hidden sizes in proportion 3 : 1 whose network has the nearest number of weights."""
    sizes = [(3 * n + extra, n) for n in range(1, 101) for extra in (-1, 0, 1)]
    return min(sizes, key=lambda size: abs(784 * size[0] + size[0] * size[1] + 10 * size[1] - weights))


def small_dense(data: str, level: int) -> Setting:
    """Return dense nets of about as many weights as a level, hidden layers in the same proportion."""
    return Setting(data, hidden=small_hidden(REMAINING[level] / 100 * WEIGHTS), sparsity=0.0)


def covers(options: Namespace, part: str, data: str, attack: str = "pgd") -> bool:
    """Return whether a part is run on a data set and against an attack."""
    return part in options.parts and data in options.sets and attack in options.attacks


def settings(options: Namespace) -> Iterator[Setting]:
    """Yield all that is run."""
    for data in options.sets:
        for attack in options.attacks:
            if covers(options, "tables", data, attack):
                yield Setting(data, attack)
        if "pgd" not in options.attacks:
            continue
        if covers(options, "natural", data):
            yield Setting(data, loss="natural")
        if covers(options, "strategies", data):
            yield from (Setting(data, rewind=rewind) for rewind in STRATEGIES)
        if covers(options, "controls", data):
            yield from (Setting(data), Setting(data, pruner="random"))
            yield from (small_dense(data, level) for level in LEVELS)


def trials(options: Namespace) -> Iterator[TrialSpec]:
    """Yield all trials, all of a seed before the next one."""
    for seed in range(options.seeds):
        yield from (setting.trial(options, seed) for setting in settings(options))


@dataclass(frozen=True)
class Results:
    """What was measured."""

    options: Namespace
    bench: Bench

    def points(self, setting: Setting) -> list[Points]:
        """Return the points of all seeds."""
        return [self.bench.points(setting.trial(self.options, seed)) for seed in range(self.options.seeds)]

    def arm(self, setting: Setting, level: int, name: str) -> Arm:
        """Return a number of one level: an accuracy `clean`, `PGD-40`, `pgd` or `fgsm`, or a metric."""
        at_level: list[Point] = [points[level] for points in self.points(setting)]
        full = {"clean": "clean_accuracy", "PGD-40": "robust_accuracy", **{a: f"{a}_accuracy" for a in ATTACKS}}
        return common.arm(at_level, full.get(name, name), common.chance(setting.trial(self.options, 0)))

    def rise(self, setting: Setting, level: int, name: str) -> Difference:
        """Return the difference of a level to the dense net."""
        return Difference(self.arm(setting, level, name), self.arm(setting, 0, name))

    def cells(self, setting: Setting, name: str, levels: Sequence[int]) -> list[str]:
        return [Mean(self.arm(setting, level, name)).interval().text(100) for level in levels]


def highest(rises: Sequence[Difference]) -> int:
    """Return the level with the greatest rise, of those from level 1 on."""
    return 1 + max(range(len(rises)), key=lambda index: rises[index].interval().mean)


def tables(results: Results) -> Iterator[str]:
    """Yield a table of each data set and attack."""
    for (data, attack), published in PUBLISHED.items():
        if not covers(results.options, "tables", data, attack):
            continue
        rows = []
        for level, name in enumerate(NAMES):
            shown = [(attack, 100, 1), ("PGD-40", 100, 1), ("clean", 100, 1), ("early_stop_epoch", 1, 1)]
            found = [(Mean(results.arm(Setting(data, attack), level, n)).interval(), s, d) for n, s, d in shown]
            rows.append((name, f"{published[level]:.1f}", *(each.text(s, d) for each, s, d in found)))
        headings = ("% left", "paper", "ours, as published", "PGD-40", "clean", "epoch of least validation loss")
        yield f"{data}, trained against {attack.upper()}\n\n{common.markdown(headings, rows)}"
    for data in results.options.sets:
        if covers(results.options, "strategies", data):
            rows = [(s, *results.cells(Setting(data, rewind=s), "pgd", LEVELS)) for s in STRATEGIES]
            yield f"{data}, PGD as published, by strategy\n\n{common.markdown(('rewind', *NAMES[1:]), rows)}"
        if covers(results.options, "controls", data):
            rows = [
                ("magnitude", *results.cells(Setting(data), "pgd", LEVELS)),
                ("random masks", *results.cells(Setting(data, pruner="random"), "pgd", LEVELS)),
                ("small dense nets", *(results.cells(small_dense(data, n), "pgd", [0])[0] for n in LEVELS)),
            ]
            yield f"{data}, PGD as published, controls of as many weights\n\n{common.markdown(('', *NAMES[1:]), rows)}"


def claims(results: Results) -> Iterator[Claim]:
    """Yield the claims C1 to C8, and what cross-evaluation adds."""
    yield from _peaks(results)
    yield _control(results)
    yield _naturally(results)
    yield _cost(results)
    yield from _by_strategy(results)
    yield from _early(results)
    yield from _crossed(results)


def _peaks(results: Results) -> Iterator[Claim]:
    wanted = [
        ("C1", "mnist", "pgd", 0.08, 5, "45.3 -> 60.1 at 51.3 %; 38.2 at 1.8 %"),
        ("C2", "mnist", "fgsm", 0.015, 5, "94.3 -> 97.5 at 16.9 %; 90.2 at 1.8 %"),
        ("C3", "fashion_mnist", "pgd", 0.02, 4, "24.7 -> 28.7 at 51.3 %; 23.8 at 3.6 %"),
    ]
    for id, data, attack, gain, sparse, paper in wanted:
        text = f"{data}, {attack}: a sparse net gains {100 * gain:g} points or more; at {NAMES[sparse]} % below dense"
        if not covers(results.options, "tables", data, attack):
            yield Claim(id, text, paper)
            continue
        rises = [results.rise(Setting(data, attack), level, attack) for level in LEVELS]
        peak, fall = highest(rises), rises[sparse - 1].interval()
        best = rises[peak - 1].interval(among=len(rises))
        ours = f"{best.text(100)} at {NAMES[peak]} %; {fall.text(100)} at {NAMES[sparse]} %"
        gains = Some(tuple(Bound(rise, at_least=gain) for rise in rises))
        yield Claim(id, text, paper, ours, best.size(), Every((gains, Bound(rises[sparse - 1], less_than=0))))


def _control(results: Results) -> Claim:
    text, paper = "fashion_mnist, fgsm: no sparse net gains 0.26 points (control)", "87.0 dense is the most"
    if not covers(results.options, "tables", "fashion_mnist", "fgsm"):
        return Claim("C4", text, paper)
    rises = [results.rise(Setting("fashion_mnist", "fgsm"), level, "fgsm") for level in LEVELS]
    most = rises[highest(rises) - 1].interval(among=len(rises))
    return Claim.about("C4", text, paper, most, Every(tuple(Bound(rise, at_most=0.0026) for rise in rises)))


def _naturally(results: Results) -> Claim:
    text, paper = "naturally trained nets: at most 12 % under either attack at any sparsity", "0.7 to 11.5 %"
    found = {
        f"{data}, {attack}, {name} %": Mean(results.arm(Setting(data, loss="natural"), level, attack))
        for data in results.options.sets
        if covers(results.options, "natural", data)
        for level, name in enumerate(NAMES)
        for attack in ATTACKS
    }
    if not found:
        return Claim("C5", text, paper)
    where = max(found, key=lambda name: found[name].interval().mean)
    most = found[where].interval()
    statement = Every(tuple(Bound(each, at_most=0.12) for each in found.values()))
    return Claim("C5", text, paper, f"at most {most.text(100)} ({where})", most.size(), statement)


def _cost(results: Results) -> Claim:
    text, paper = "mnist, pgd: natural accuracy falls with sparsity", "98.4 -> 95.6 at 3.6 % -> 92.7 at 1.8 %"
    if not covers(results.options, "tables", "mnist"):
        return Claim("C6", text, paper)
    dense, sparse, sparsest = (results.arm(Setting("mnist"), level, "clean") for level in (0, 4, 5))
    steps = Difference(sparse, dense), Difference(sparsest, sparse)
    first, second = (step.interval() for step in steps)
    ours = f"{first.text(100)} to 3.6 %, {second.text(100)} from there to 1.8 %"
    return Claim("C6", text, paper, ours, first.size(), Every(tuple(Bound(step, less_than=0) for step in steps)))


def _by_strategy(results: Results) -> Iterator[Claim]:
    texts = {
        "C7a": ("mnist, pgd: random values are never the best to go back to", "figures"),
        "C7b": ("mnist, pgd: initial values (as described) are best at 3.6 and 1.8 %", "figures"),
        "C7c": ("mnist, pgd: trained dense values (as in the code) are best there", "what the code's figures show"),
    }
    if not covers(results.options, "strategies", "mnist"):
        yield from (Claim(id, text, paper) for id, (text, paper) in texts.items())
        return

    def leads(strategy: str, level: int) -> list[Difference]:
        """Return how much better a strategy is than each other one."""
        ours, *others = (
            results.arm(Setting("mnist", rewind=s), level, "pgd")
            for s in (strategy, *(s for s in STRATEGIES if s != strategy))
        )
        return [Difference(ours, other) for other in others]

    def least(found: list[Difference]) -> Difference:
        return min(found, key=lambda lead: lead.interval().mean)

    by_level = [leads("random", level) for level in LEVELS]
    most = max((least(found).interval() for found in by_level), key=lambda found: found.mean)
    never = Every(tuple(Some(tuple(Bound(lead, less_than=0) for lead in found)) for found in by_level))
    yield Claim("C7a", *texts["C7a"], f"lead at most {most.text(100)}", most.size(), never)
    for id, strategy in (("C7b", "init"), ("C7c", "dense_trained")):
        by_level = [leads(strategy, level) for level in (4, 5)]
        shown = [least(found).interval() for found in by_level]
        ours = "; ".join(f"{each.text(100)} at {name} %" for each, name in zip(shown, NAMES[4:], strict=True))
        best = Every(tuple(Bound(lead, more_than=0) for found in by_level for lead in found))
        yield Claim(id, *texts[id], f"lead over the next {ours}", shown[0].size(), best)


def _early(results: Results) -> Iterator[Claim]:
    for id, part, rewind in (("C8a", "tables", "init"), ("C8b", "strategies", "dense_trained")):
        text = f"mnist, pgd, back to {rewind}: validation loss is least earlier at 1.8 % than dense"
        if not covers(results.options, part, "mnist"):
            yield Claim(id, text, "figures")
            continue
        earlier = results.rise(Setting("mnist", rewind=rewind), 5, "early_stop_epoch")
        statement = Bound(earlier, less_than=0)
        yield Claim.about(id, text, "figures", earlier.interval(), statement, scale=1)


def _crossed(results: Results) -> Iterator[Claim]:
    """Yield what the paper did not ask: the same nets under a stronger attack, off true labels."""
    for data in results.options.sets:
        for id, attack in (("X1", "pgd"), ("X2", "fgsm")):
            if not covers(results.options, "tables", data, attack):
                continue
            setting, paper = Setting(data, attack), "not measured"
            rises = [results.rise(setting, level, attack) for level in LEVELS]
            drops = [Difference(results.arm(setting, n, "PGD-40"), results.arm(setting, n, attack)) for n in LEVELS]
            peak = highest(rises)
            text = f"{data}, {attack}: every sparse net is as robust to PGD-40 off true labels, to 5 points"
            every = Every(tuple(Bound(drop, at_least=-0.05) for drop in drops))
            ours = f"{drops[peak - 1].interval().text(100)} at {NAMES[peak]} %, the best as published"
            yield Claim(f"{id} {data}", text, paper, ours, drops[peak - 1].interval().size(), every)
            rises = [results.rise(setting, level, "PGD-40") for level in LEVELS]
            most = rises[highest(rises) - 1].interval(among=len(rises))
            text = f"{data}, {attack}: a sparse net gains under PGD-40 as well"
            gains = Some(tuple(Bound(rise, more_than=0) for rise in rises))
            yield Claim.about(f"{id}b {data}", text, paper, most, gains)


def report(options: Namespace, bench: Bench) -> Iterator[str]:
    results = Results(options, bench)
    yield (
        f"Cosentino 2019: {options.epochs} epochs of {options.images} images, dense and after the {len(ROUNDS)} "
        f"reported rounds alone, {options.seeds} seeds, {options.examples} examples.\n"
    )
    yield from tables(results)
    yield f"{common.READING}\n"
    yield common.table(claims(results))


def parsed(given: Sequence[str] | None = None) -> Namespace:
    parser = common.arguments(__doc__, "cosentino2019")
    parser.add_argument("--epochs", type=int, default=6, help="of each training")
    parser.add_argument("--images", type=int, default=10_000, help="of the training split")
    parser.add_argument("--examples", type=int, default=1000, help="that are measured")
    parser.add_argument("--sets", nargs="+", choices=("mnist", "fashion_mnist"), default=["mnist"])
    parser.add_argument("--attacks", nargs="+", choices=tuple(ATTACKS), default=["pgd"])
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, "all"), default=["tables", "natural"])
    options = parser.parse_args(given)
    if "all" in options.parts:
        options.parts = list(PARTS)
    if options.tiny:
        options.epochs, options.parts, options.sets = 1, list(PARTS), ["mnist", "fashion_mnist"]
        options.attacks, options.examples, options.folder = list(ATTACKS), 50, options.folder / "tiny"
    return options


if __name__ == "__main__":
    common.run(parsed(), trials, report)
