"""Cosentino et al. 2019: does a robust network become more robust as it gets sparser, and what does that depend on?

    python benchmarks/papers/cosentino2019.py --data DATA                # MNIST, PGD, for the first claims
    python benchmarks/papers/cosentino2019.py --data DATA --parts all --sets mnist fashion_mnist --attacks pgd fgsm
    python benchmarks/papers/cosentino2019.py --tiny                     # a dry run on digits

The network, the rates, the loss and the attacks are the paper's. Shortened: `--epochs` of `--images` images for each
training (the paper: 60 of 50,000, 50,040 steps), trainings only after the reported rounds, 3 seeds instead of 5, and
`--examples` validation images instead of 10,000 test images. Every number is from the end of a training. "Best" is the
sparsity level with the highest mean; the claim is then judged on the same numbers. "as published" is the attack of the
training, on the labels that the network itself predicts; "PGD-40" is on true labels.

Results are stored in `--folder`. Run again, the script resumes, and prints at once what is stored.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

# A script's folder comes first on the path; the project's comes before what is installed.
sys.path.insert(0, str(Path(__file__).parents[2]))

import common
from common import Claim, Interval, interval, paired, together, verdict

from trainables.recipes.trial import TrialSpec
from trainables.store.records import Point

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


@dataclass(frozen=True)
class Bench:
    """What is run, and where."""

    options: Namespace
    _known: dict[Any, tuple[Point, ...]] = field(default_factory=dict)

    def chain(
        self,
        data: str,
        attack: str,
        seed: int,
        *,
        loss: str = "mix",
        rewind: str = "init",
        pruner: str = "magnitude",
        hidden: tuple[int, ...] = (300, 100),
        sparsity: float | None = None,
    ) -> tuple[Point, ...]:
        """Return the points of one seed: the dense net and those after the reported rounds."""
        name = (data, attack, seed, loss, rewind, pruner, hidden, sparsity)
        if name not in self._known:
            trial = self._trial(data, attack, seed, loss, rewind, pruner, hidden, sparsity)
            self._known[name] = common.points(TrialSpec.model_validate(trial), self.options.folder)
        return self._known[name]

    def _trial(
        self,
        data: str,
        attack: str,
        seed: int,
        loss: str,
        rewind: str,
        pruner: str,
        hidden: tuple[int, ...],
        sparsity: float | None,
    ) -> dict[str, Any]:
        tiny = self.options.tiny
        kind = "digits" if tiny else data
        images = {"limit": 200, "validation": 300} if tiny else {"limit": self.options.images, "validation": 10_000}
        recipe = {
            "kind": "cosentino2019",
            "sparsity": 1 - REMAINING[-1] / 100 if sparsity is None else sparsity,
            "epochs": self.options.epochs,
            "retrain": ROUNDS,
            "rewind": rewind,
            "pruner": pruner,
            # The attack matters to no weight of a natural training: one for both shares them.
            "train": {"attack": ATTACKS["pgd" if loss == "natural" else attack], "loss": loss, "validate_on": 500},
        }
        metrics = [
            "early_stop",
            *({"kind": "attacked", "name": n, "attack": a, "labels": "predicted"} for n, a in ATTACKS.items()),
        ]
        return {
            "data": common.data(kind, self.options.data, **images),
            "model": {
                "kind": "lenet300",
                "hidden": hidden,
                "bias": False,
                "init": "glorot_uniform",
                "normalise": False,
            },
            "recipe": recipe,
            "protocol": {
                "eps": 0.3,
                "attack": {"kind": "pgd", "steps": 40},
                "examples": min(self.options.examples, 300) if tiny else self.options.examples,
                "metrics": metrics,
            },
            "seed": seed,
        }

    def chains(self, data: str, attack: str, **more: Any) -> list[tuple[Point, ...]]:
        """Return the points of all seeds."""
        return [self.chain(data, attack, seed, **more) for seed in range(self.options.seeds)]

    def covers(self, part: str, data: str, attack: str = "pgd") -> bool:
        """Return whether a part is run on a data set and against an attack."""
        options = self.options
        return part in options.parts and data in options.sets and attack in options.attacks


def under(name: str) -> Any:
    """Return how to read an accuracy from a point: a metric's, `clean` or `PGD-40`."""
    if name == "clean":
        return lambda point: point.clean_accuracy
    if name == "PGD-40":
        return lambda point: point.robust_accuracy
    return lambda point: point.metrics[name]


def column(chains: list[tuple[Point, ...]], level: int, name: str) -> list[float]:
    """Return a number of one level, by seed."""
    return [float(under(name)(chain[level])) for chain in chains]


def best(chains: list[tuple[Point, ...]], name: str) -> int:
    """Return the sparse level with the highest mean."""
    return max(range(1, len(NAMES)), key=lambda level: sum(column(chains, level, name)))


def results(bench: Bench) -> Iterator[str]:
    """Yield a table of each data set and attack."""
    for (data, attack), published in PUBLISHED.items():
        if not bench.covers("tables", data, attack):
            continue
        chains = bench.chains(data, attack)
        rows = []
        for level, name in enumerate(NAMES):
            shown = [(f"{attack}_accuracy", 100, 1), ("PGD-40", 100, 1), ("clean", 100, 1), ("early_stop_epoch", 1, 1)]
            cells = [interval(column(chains, level, n)).text(scale, digits) for n, scale, digits in shown]
            rows.append((name, f"{published[level]:.1f}", *cells))
        headings = ("% left", "paper", "ours, as published", "PGD-40", "clean", "epoch of least validation loss")
        yield f"{data}, trained against {attack.upper()}\n\n{common.markdown(headings, rows)}"
    for data in bench.options.sets:
        if bench.covers("strategies", data):
            yield from _strategies(bench, data)
        if bench.covers("controls", data):
            yield from _controls(bench, data)


def _strategies(bench: Bench, data: str) -> Iterator[str]:
    rows = []
    for strategy in STRATEGIES:
        chains = bench.chains(data, "pgd", rewind=strategy)
        rows.append((strategy, *(interval(column(chains, level, "pgd_accuracy")).text(100) for level in range(1, 6))))
    yield f"{data}, PGD as published, by strategy\n\n{common.markdown(('rewind', *NAMES[1:]), rows)}"


def _controls(bench: Bench, data: str) -> Iterator[str]:
    found = {
        "magnitude": bench.chains(data, "pgd"),
        "random masks": bench.chains(data, "pgd", pruner="random"),
    }
    rows = [
        (name, *(interval(column(chains, level, "pgd_accuracy")).text(100) for level in range(1, 6)))
        for name, chains in found.items()
    ]
    small = [interval(column(small_dense(bench, data, level), 0, "pgd_accuracy")).text(100) for level in range(1, 6)]
    rows.append(("small dense nets", *small))
    yield f"{data}, PGD as published, controls of as many weights\n\n{common.markdown(('', *NAMES[1:]), rows)}"


def small_dense(bench: Bench, data: str, level: int) -> list[tuple[Point, ...]]:
    """Return dense nets of about as many weights, hidden layers in the same proportion."""
    return bench.chains(data, "pgd", hidden=small_hidden(REMAINING[level] / 100 * WEIGHTS), sparsity=0.0)


@cache
def small_hidden(weights: float) -> tuple[int, int]:
    """Return hidden sizes in proportion 3 : 1 whose network has the nearest number of weights."""
    sizes = [(3 * n + extra, n) for n in range(1, 101) for extra in (-1, 0, 1)]
    return min(sizes, key=lambda size: abs(784 * size[0] + size[0] * size[1] + 10 * size[1] - weights))


def claims(bench: Bench) -> Iterator[Claim]:
    """Yield the claims C1 to C8, and what cross-evaluation adds."""
    yield from _peaks(bench)
    yield _naturally(bench)
    yield _cost(bench)
    yield from _by_strategy(bench)
    yield from _early(bench)
    yield from _crossed(bench)


def untested(id: str, text: str, paper: str) -> Claim:
    return Claim(id, text, paper, "", None, None, "not tested")


def _peaks(bench: Bench) -> Iterator[Claim]:
    wanted = [
        ("C1", "mnist", "pgd", 0.08, -1, "45.3 -> 60.1 at 51.3 %; 38.2 at 1.8 %"),
        ("C2", "mnist", "fgsm", 0.015, -1, "94.3 -> 97.5 at 16.9 %; 90.2 at 1.8 %"),
        ("C3", "fashion_mnist", "pgd", 0.02, 4, "24.7 -> 28.7 at 51.3 %; 23.8 at 3.6 %"),
    ]
    for id, data, attack, gain, sparse, paper in wanted:
        text = f"{data}, {attack}: a sparse net gains {100 * gain:g} points or more; at {NAMES[sparse]} % below dense"
        if not bench.covers("tables", data, attack):
            yield untested(id, text, paper)
            continue
        chains, name = bench.chains(data, attack), f"{attack}_accuracy"
        dense, peak = column(chains, 0, name), best(chains, name)
        rise = paired(column(chains, peak, name), dense)
        fall = paired(column(chains, sparse % 6, name), dense)
        ours = f"{rise.text(100)} at {NAMES[peak]} %; {fall.text(100)} at {NAMES[sparse]} %"
        judged = together([verdict(rise, at_least=gain), verdict(fall, at_most=0)])
        yield Claim(id, text, paper, ours, rise.low, rise.high, judged)
    text, paper = "fashion_mnist, fgsm: no sparse net gains (control)", "87.0 dense is the most"
    if bench.covers("tables", "fashion_mnist", "fgsm"):
        chains = bench.chains("fashion_mnist", "fgsm")
        peak = best(chains, "fgsm_accuracy")
        gain_found = paired(column(chains, peak, "fgsm_accuracy"), column(chains, 0, "fgsm_accuracy"))
        yield Claim.judged("C4", text, paper, gain_found, at_most=0.0026, scale=100)
    else:
        yield untested("C4", text, paper)


def _naturally(bench: Bench) -> Claim:
    text, paper = "naturally trained nets: at most 12 % under either attack at any sparsity", "0.7 to 11.5 %"
    found: list[tuple[str, Interval]] = []
    for data in bench.options.sets:
        if bench.covers("natural", data):
            chains = bench.chains(data, "pgd", loss="natural")
            for level, name in enumerate(NAMES):
                for attack in ATTACKS:
                    where = f"{data}, {attack}, {name} %"
                    found.append((where, interval(column(chains, level, f"{attack}_accuracy"))))
    if not found:
        return untested("C5", text, paper)
    where, most = max(found, key=lambda pair: pair[1].mean)
    judged = together([verdict(each, at_most=0.12) for _, each in found])
    return Claim("C5", text, paper, f"at most {most.text(100)} ({where})", most.low, most.high, judged)


def _cost(bench: Bench) -> Claim:
    text, paper = "mnist, pgd: natural accuracy falls with sparsity", "98.4 -> 95.6 at 3.6 % -> 92.7 at 1.8 %"
    if not bench.covers("tables", "mnist"):
        return untested("C6", text, paper)
    chains = bench.chains("mnist", "pgd")
    steps = [paired(column(chains, 4, "clean"), column(chains, 0, "clean"))]
    steps.append(paired(column(chains, 5, "clean"), column(chains, 4, "clean")))
    ours = f"{steps[0].text(100)} to 3.6 %, {steps[1].text(100)} from there to 1.8 %"
    judged = together([verdict(step, at_most=0) for step in steps])
    return Claim("C6", text, paper, ours, steps[0].low, steps[0].high, judged)


def _by_strategy(bench: Bench) -> Iterator[Claim]:
    texts = {
        "C7a": ("mnist, pgd: random values are never the best to go back to", "figures"),
        "C7b": ("mnist, pgd: initial values (as described) are best at 3.6 and 1.8 %", "figures"),
        "C7c": ("mnist, pgd: trained dense values (as in the code) are best there", "what the code's figures show"),
    }
    if not bench.covers("strategies", "mnist"):
        for id, (text, paper) in texts.items():
            yield untested(id, text, paper)
        return
    chains = {strategy: bench.chains("mnist", "pgd", rewind=strategy) for strategy in STRATEGIES}

    def lead(strategy: str, level: int) -> Interval:
        """Return how much better a strategy is than the best other one."""
        others = [s for s in STRATEGIES if s != strategy]
        rival = max(others, key=lambda s: sum(column(chains[s], level, "pgd_accuracy")))
        return paired(column(chains[strategy], level, "pgd_accuracy"), column(chains[rival], level, "pgd_accuracy"))

    leads = [lead("random", level) for level in range(1, 6)]
    most = max(leads, key=lambda found: found.mean)
    judged = together([verdict(found, at_most=0) for found in leads])
    yield Claim("C7a", *texts["C7a"], f"lead at most {most.text(100)}", most.low, most.high, judged)
    for id, strategy in (("C7b", "init"), ("C7c", "dense_trained")):
        leads = [lead(strategy, level) for level in (4, 5)]
        ours = "; ".join(f"{found.text(100)} at {name} %" for found, name in zip(leads, NAMES[4:], strict=True))
        judged = together([verdict(found, at_least=0) for found in leads])
        yield Claim(id, *texts[id], f"lead {ours}", leads[0].low, leads[0].high, judged)


def _early(bench: Bench) -> Iterator[Claim]:
    paper = "figures"
    for id, part, rewind in (("C8a", "tables", "init"), ("C8b", "strategies", "dense_trained")):
        text = f"mnist, pgd, back to {rewind}: validation loss is least earlier at 1.8 % than dense"
        if not bench.covers(part, "mnist"):
            yield untested(id, text, paper)
            continue
        chains = bench.chains("mnist", "pgd", rewind=rewind)
        found = paired(column(chains, 5, "early_stop_epoch"), column(chains, 0, "early_stop_epoch"))
        judged = verdict(found, at_most=0)
        # Where every training is at its best at its end, nothing has stopped early.
        ends = all(
            value == bench.options.epochs for level in (0, 5) for value in column(chains, level, "early_stop_epoch")
        )
        yield Claim(id, text, paper, f"{found.text()} epochs", found.low, found.high, "cannot tell" if ends else judged)


def _crossed(bench: Bench) -> Iterator[Claim]:
    """Yield what the paper did not ask: the same nets under a stronger attack, off true labels."""
    for data in bench.options.sets:
        for id, attack in (("X1", "pgd"), ("X2", "fgsm")):
            if bench.covers("tables", data, attack):
                chains = bench.chains(data, attack)
                peak = best(chains, f"{attack}_accuracy")
                drop = paired(column(chains, peak, "PGD-40"), column(chains, peak, f"{attack}_accuracy"))
                text = f"{data}, {attack}: the best sparse net is as robust to PGD-40 off true labels, to 5 points"
                yield Claim.judged(f"{id} {data}", text, "not measured", drop, at_least=-0.05, scale=100)
                gain = paired(column(chains, best(chains, "PGD-40"), "PGD-40"), column(chains, 0, "PGD-40"))
                text = f"{data}, {attack}: a sparse net gains under PGD-40 as well"
                yield Claim.judged(f"{id}b {data}", text, "not measured", gain, at_least=0, scale=100)


def main() -> None:
    parser = common.arguments(__doc__, "cosentino2019")
    parser.add_argument("--epochs", type=int, default=6, help="of each training")
    parser.add_argument("--images", type=int, default=10_000, help="of the training split")
    parser.add_argument("--examples", type=int, default=1000, help="that are measured")
    parser.add_argument("--sets", nargs="+", choices=("mnist", "fashion_mnist"), default=["mnist"])
    parser.add_argument("--attacks", nargs="+", choices=tuple(ATTACKS), default=["pgd"])
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, "all"), default=["tables", "natural"])
    options = parser.parse_args()
    if "all" in options.parts:
        options.parts = list(PARTS)
    if options.tiny:
        options.epochs, options.parts, options.sets = 1, list(PARTS), ["mnist", "fashion_mnist"]
        options.attacks, options.examples, options.folder = list(ATTACKS), 50, options.folder / "tiny"
    bench = Bench(options)
    set_out = f"{options.epochs} epochs of {options.images} images, {options.seeds} seeds, {options.examples} examples"
    text = "\n".join([f"Cosentino 2019: {set_out}.\n", *results(bench), common.table(claims(bench))])
    common.tell(text, options.output)


if __name__ == "__main__":
    main()
