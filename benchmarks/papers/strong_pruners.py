r"""Compare strong pruners: one small task, the same training budget for each, one protocol, at 90, 95 and 99 %.

Every method trains about `--epochs` epochs in total for one sparsity, divided as published (100, 20 and 100 for learned
masks, thirds for R-ADMM, a cut after a tenth for TwinRep), with the same loss and attack; imp takes what its rounds
take. What a method is set against differs in one thing: HYDRA and R-ADMM train on at a tenth of the learning rate after
a cut within layers, and so do "magnitude, as hydra" and "magnitude, as radmm"; MAD cuts all layers together and trains
on at the full rate, as `three_stage` does. "mad without masks" is the control of `mad`, "magnitude, as twin_rep" trains
the weights instead of factors, "random, as flying_bird" keeps the random mask.

The claims come from the methods' own tables and from the benchmark of Piras et al. 2024 (AutoAttack, ResNet-18 on
CIFAR-10), so ours only tell whether the order is the same at this size. `filter` prunes whole filters: a harder task
that really saves work; for the other masks, "work left" is counted, not measured.

    python benchmarks/papers/strong_pruners.py --data DATA    # LeNet-300-100, MNIST; about 20 minutes
    python benchmarks/papers/strong_pruners.py --tiny         # digits, under a minute
    python benchmarks/papers/strong_pruners.py --net resnet18 --set-of cifar10 --eps 8/255 --epochs 100 --seeds 1 \
        --images 45000 --device cuda --init kaiming_uniform
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import common
from common import Arm, Bench, Claim, Point, TrialSpec, markdown

from search.results.verdicts import Difference, Mean

SPARSITIES = (0.9, 0.95, 0.99)
BATCH = 128


def _learned(options: argparse.Namespace) -> dict[str, Any]:
    part = max(1, round(options.epochs * 5 / 11))
    return {"epochs": part, "prune_epochs": max(1, options.epochs - 2 * part), "finetune_epochs": part}


def _pulled(options: argparse.Namespace) -> dict[str, Any]:
    part = max(1, options.epochs // 3)
    fields = {"epochs": part, "admm_epochs": part, "retrain_epochs": options.epochs - 2 * part}
    return {**fields, "update_epochs": max(1, part // 10)}


def _cut_within_layers(options: argparse.Namespace, epochs: int) -> dict[str, Any]:
    """Return one magnitude cut after some epochs, with the layers' densities and the rate of learned masks and ADMM."""
    fields = {"kind": "three_stage", "prune": {"scope": "layerwise"}, "epochs": epochs}
    return {**fields, "finetune_epochs": options.epochs - epochs, "finetune_lr": options.lr / 10}


METHODS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "three_stage": lambda o: {"epochs": o.epochs // 2, "finetune_epochs": o.epochs - o.epochs // 2},
    "imp": lambda o: {"epochs": o.epochs // 2, "rate": 0.5, "rewind": "none", "round_epochs": max(1, o.epochs // 8)},
    "magnitude, as hydra": lambda o: _cut_within_layers(o, _learned(o)["epochs"]),
    "hydra": _learned,
    "harp": _learned,
    "magnitude, as radmm": lambda o: _cut_within_layers(o, _pulled(o)["epochs"]),
    "radmm": _pulled,
    "magnitude, as twin_rep": lambda o: {**METHODS["twin_rep"](o), "kind": "twin_rep", "factors": False},
    "twin_rep": lambda o: {"epochs": o.epochs, "prune_epoch": max(1, o.epochs // 10), "init": o.init},
    # Its saliency takes the time of some epochs more, which is in the seconds.
    "mad": lambda o: {"epochs": o.epochs // 2, "finetune_epochs": o.epochs - o.epochs // 2},
    # The same without its masks.
    "mad without masks": lambda o: {
        "kind": "mad",
        "prune": {"pruner": {"kind": "mad", "mask": False, "blocks": "weight"}},
        **METHODS["mad"](o),
    },
    "random, as flying_bird": lambda o: {
        "kind": "flying_bird",
        "dynamics": {"drop": 0.0, "final_drop": 0.0},
        **METHODS["flying_bird"](o),
    },
    "flying_bird": lambda o: {"epochs": o.epochs},
    "gradual": lambda o: {"epochs": o.epochs, "every": 1 / 40},
    "filter": lambda o: {"epochs": o.epochs // 2, "finetune_epochs": o.epochs - o.epochs // 2},
}
"""By recipe, or under a name of its own, the fields for a budget of epochs."""


def trial(method: str, sparsity: float, seed: int, options: argparse.Namespace) -> TrialSpec:
    """Return the trial of a method at a sparsity."""
    train = {
        "batch": BATCH,
        "optimiser": {"kind": "sgd", "lr": options.lr, "weight_decay": 1e-4},
        "schedule": "cosine",
        "loss": options.loss,
        "attack": {"kind": "pgd", "steps": 7, "step_size": 0.25},
        "eps": options.eps,
        "precision": "fp32",
    }
    if options.set_of.startswith("cifar"):
        train |= {"crop": 4, "flip": True}
    described = {
        "data": common.data(options.set_of, options.data, limit=options.images, validation=options.examples),
        "model": options.net,
        "recipe": {"kind": method, "sparsity": sparsity, "train": train, **METHODS[method](options)},
        "protocol": {"eps": options.eps, "attack": {"kind": "pgd", "steps": 40, "restarts": 2}},
        "seed": seed,
    }
    return TrialSpec.model_validate(described)


def trials(options: argparse.Namespace) -> Iterator[TrialSpec]:
    """Yield all methods at all sparsities with all seeds."""
    for seed in range(options.seeds):
        yield from (
            trial(method, sparsity, seed, options) for method in options.methods for sparsity in options.sparsities
        )


@dataclass(frozen=True)
class Results:
    """What was measured."""

    options: argparse.Namespace
    bench: Bench

    def specs(self, method: str, sparsity: float) -> list[TrialSpec]:
        return [trial(method, sparsity, seed, self.options) for seed in range(self.options.seeds)]

    def points(self, method: str, sparsity: float) -> list[Point]:
        """Return the last point of every seed."""
        return [self.bench.points(spec)[-1] for spec in self.specs(method, sparsity)]

    def arm(self, method: str, sparsity: float, name: str = "robust_accuracy") -> Arm:
        chance = common.chance(self.specs(method, sparsity)[0])
        return common.arm(self.points(method, sparsity), name, chance)


MORE, LESS = {"more_than": 0.0}, {"less_than": 0.0}
CLAIMS: tuple[tuple[str, str, str, tuple[str, float], tuple[str, float], dict[str, float]], ...] = (
    (
        "H1",
        "hydra over its magnitude at 99 %",
        "+7.4 (VGG-16), +10.0 (WRN-28-4)",
        ("hydra", 0.99),
        ("magnitude, as hydra", 0.99),
        MORE,
    ),
    ("H2", "the same at 90 %", "+0.7, +1.4", ("hydra", 0.9), ("magnitude, as hydra", 0.9), MORE),
    ("P1", "harp over hydra at 99 %", "+6.7", ("harp", 0.99), ("hydra", 0.99), MORE),
    (
        "P2",
        "harp from 90 to 99 %: a point or less is lost",
        "+0.1",
        ("harp", 0.99),
        ("harp", 0.9),
        {"at_least": -0.01},
    ),
    (
        "A1",
        "radmm over its magnitude at 99 %",
        "+10.5 (ResNet-18), +6.8 (VGG-16), read off a figure of MAD's README",
        ("radmm", 0.99),
        ("magnitude, as radmm", 0.99),
        MORE,
    ),
    ("A2", "radmm at 99 % is below hydra", "-1.6", ("radmm", 0.99), ("hydra", 0.99), LESS),
    ("T1", "twin_rep at 99 % is below hydra", "-2.7", ("twin_rep", 0.99), ("hydra", 0.99), LESS),
    (
        "T2",
        "twin_rep over its magnitude at 99 %",
        "not known",
        ("twin_rep", 0.99),
        ("magnitude, as twin_rep", 0.99),
        MORE,
    ),
    ("T3", "the same at 90 %", "not known", ("twin_rep", 0.9), ("magnitude, as twin_rep", 0.9), MORE),
    ("F1", "flying_bird over hydra at 90 %", "+3.2", ("flying_bird", 0.9), ("hydra", 0.9), MORE),
    ("F2", "flying_bird over harp at 95 %", "+0.4", ("flying_bird", 0.95), ("harp", 0.95), MORE),
    ("F3", "flying_bird at 99 % is below harp", "-3.5", ("flying_bird", 0.99), ("harp", 0.99), LESS),
    (
        "F4",
        "flying_bird over its random mask at 99 %",
        "not known",
        ("flying_bird", 0.99),
        ("random, as flying_bird", 0.99),
        MORE,
    ),
    ("F5", "the same at 90 %", "not known", ("flying_bird", 0.9), ("random, as flying_bird", 0.9), MORE),
    (
        "M1",
        "mad over magnitude (three_stage) at 99 %",
        "+13.6 (VGG-16), +20.0 (ResNet-18)",
        ("mad", 0.99),
        ("three_stage", 0.99),
        MORE,
    ),
    ("M2", "mad over hydra at 99 %", "+2.7, +4.7; by AutoAttack -9.5", ("mad", 0.99), ("hydra", 0.99), MORE),
    ("M3", "mad over hydra at 90 %", "+4.4, +0.4", ("mad", 0.9), ("hydra", 0.9), MORE),
)
"""What the methods' papers and the benchmark say of their order: method and sparsity, whom they are set against."""


def claims(results: Results) -> Iterator[Claim]:
    """Yield the claims; one about a method that is not run is not tested."""
    for id, text, paper, ours, theirs, bounds in CLAIMS:
        options = results.options
        if {ours[0], theirs[0]} <= set(options.methods) and {ours[1], theirs[1]} <= set(options.sparsities):
            found = Difference(results.arm(*ours), results.arm(*theirs))
            yield Claim.bounded(id, text, paper, found, **bounds)
        else:
            yield Claim(id, text, paper)


def side_by_side(results: Results) -> str:
    """Write what every method measures at every sparsity, and what it costs."""
    rows = []
    for method in results.options.methods:
        for sparsity in results.options.sparsities:
            accuracies = [
                Mean(results.arm(method, sparsity, name)).interval().text(100)
                for name in ("robust_accuracy", "clean_accuracy")
            ]
            points, specs = results.points(method, sparsity), results.specs(method, sparsity)
            epochs = sum(point.epochs_trained + point.epochs_shared for point in points) / len(points)
            macs = sum((point.macs_effective or 0) / (point.macs_dense or 1) for point in points) / len(points)
            took = sum(map(results.bench.seconds, specs)) / len(specs)
            rows.append([method, f"{sparsity:.0%}", *accuracies, f"{macs:.1%}", f"{epochs:g}", f"{took:.0f}"])
    return markdown(["", "sparsity", "robust", "clean", "work left", "epochs", "seconds of training"], rows)


def report(options: argparse.Namespace, bench: Bench) -> Iterator[str]:
    results = Results(options, bench)
    yield (
        f"{options.net} on {options.set_of}, {options.images} images, {options.epochs} epochs, {options.loss}, "
        f"eps {options.eps}, PGD-40x2, {options.seeds} seeds; in percent. {common.READING}\n"
    )
    yield common.table(claims(results))
    yield side_by_side(results)


def parsed(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = common.arguments(__doc__, "strong_pruners")
    parser.add_argument("--net", default="lenet300")
    parser.add_argument("--set-of", default="mnist", help="which data set")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS), help="all by default")
    parser.add_argument("--sparsities", nargs="+", type=float, choices=SPARSITIES, default=list(SPARSITIES))
    parser.add_argument("--images", type=int, default=6000, help="of training, beside those of validation")
    parser.add_argument("--examples", type=int, default=1000, help="of validation")
    parser.add_argument("--epochs", type=int, default=22, help="of each method for one sparsity, in all")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--eps", default="0.1")
    parser.add_argument("--loss", default="madry")
    parser.add_argument("--init", default="ones", help="of TwinRep's second factors; kaiming_uniform is published")
    options = parser.parse_args(given)
    if options.tiny:
        small = {"set_of": "digits", "images": 200, "examples": 100, "epochs": 6}
        vars(options).update(small, folder=options.folder / "tiny")
    return options


if __name__ == "__main__":
    common.run(parsed(), trials, report)
