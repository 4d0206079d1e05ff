r"""Robust sparse regularisation (Rakin et al. 2019) at a small size: its ablation, under the paper's attack and others.

R1 and R2 are the paper's claims, under its protocol: PGD-7 with noise, one pass per gradient. R4 is what follows if the
gain comes from the randomness alone: averaged gradients remove most of it, and it disappears with the noise off.

    python benchmarks/papers/rakin2019.py --data DATA    # LeNet-5 on MNIST, about 45 minutes on one core
    python benchmarks/papers/rakin2019.py --tiny         # digits, under a minute
    python benchmarks/papers/rakin2019.py --net resnet20 --set-of cifar10 --eps 0.031 --epochs 60 --images 45000 \
        --device cuda

Shortened by default: 4,000 images and 12 epochs (the paper has 50,000 and, by the code for its noise, 160), one
network, one weight of the lasso.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import common
from common import Claim, interval, markdown, paired

from trainables.recipes.trial import TrialSpec
from trainables.store.records import Point

ARMS: dict[str, dict[str, Any]] = {
    "AT": {"weights": "plain"},
    "AT + lasso": {"weights": "plain", "lasso": True},
    "AT + noise per layer": {"weights": {"kind": "noise", "coefficients": "layer"}},
    "AT + CNI": {"weights": "noise"},
    "AT + CNI + lasso": {"weights": "noise", "lasso": True},
}
MEASURES = ("noise_clean", "noise_pgd", "noise_eot", "noise_mean", "noise_off_clean", "noise_off_strong")
SPARSITY = 0.85
MORE = 1e-9
"""Equal networks are no gain."""
Found = Mapping[str, list[tuple[Point, Point]]]


def trial(arm: str, seed: int, options: argparse.Namespace) -> TrialSpec:
    """Return the trial of an arm: dense, cut to 85 % and tuned for a few epochs, both measured."""
    fields = dict(ARMS[arm])
    lasso = {"l1": options.lasso} if fields.pop("lasso", False) else {}
    train = {
        "batch": 64,
        "optimiser": {"kind": "sgd", "lr": options.lr, "nesterov": True, "weight_decay": 3e-4},
        "regularisers": lasso,
        "natural_epochs": round(options.epochs * 5 / 160),
        "eps": options.eps,
    }
    if options.net.startswith("resnet"):
        train |= {"batch": 128, "crop": 4, "flip": True}
    metric = {"kind": "noise", "examples": options.attacked, "eot": options.eot}
    recipe = {"kind": "rakin2019", "sparsity": SPARSITY, "epochs": options.epochs, "train": train, **fields}
    recipe |= {"finetune_epochs": max(1, options.epochs // 4), "finetune_lr": options.lr / 10}
    described = {
        "data": common.data(options.set_of, options.data, limit=options.images, validation=options.examples),
        "model": options.net,
        "recipe": recipe,
        "protocol": {"eps": options.eps, "attack": {"kind": "pgd", "steps": 20}, "metrics": [metric]},
        "seed": seed,
    }
    return TrialSpec.model_validate(described)


def run(options: argparse.Namespace) -> Found:
    """Run all arms with all seeds; a seed is an initialisation and all draws of the training."""
    found: dict[str, list[tuple[Point, Point]]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm, pairs in found.items():
            dense, pruned = common.points(trial(arm, seed, options), options.folder, options.device)
            pairs.append((dense, pruned))
    return found


def values(found: Found, arm: str, name: str, *, pruned: bool = False) -> list[float]:
    """Return a metric of an arm's networks, seed by seed; one that is not finite counts as 0."""
    return [float(pair[pruned].metrics[name] or 0.0) for pair in found[arm]]


def claims(found: Found) -> list[Claim]:
    """Judge the claims, seed by seed."""

    def gain(arm: str, over: str, name: str, *, pruned: bool = False, both: bool = False) -> common.Interval:
        return paired(values(found, arm, name, pruned=pruned), values(found, over, name, pruned=both))

    points: dict[str, Any] = {"scale": 100}
    both, cni, layer = "AT + CNI + lasso", "AT + CNI", "AT + noise per layer"
    return [
        Claim.judged(
            "R1a", "CNI over AT, PGD-7 with noise", "+9.3", gain(cni, "AT", "noise_pgd"), at_least=MORE, **points
        ),
        Claim.judged(
            "R1b", "noise per layer over AT, the same", "+6.8", gain(layer, "AT", "noise_pgd"), at_least=MORE, **points
        ),
        Claim.judged(
            "R1c", "CNI over noise per layer, the same", "+2.5", gain(cni, layer, "noise_pgd"), at_least=MORE, **points
        ),
        Claim.judged(
            "R2a",
            "CNI + lasso, 85 % pruned, over dense AT: clean",
            "+0.68",
            gain(both, "AT", "noise_clean", pruned=True),
            at_least=0,
            **points,
        ),
        Claim.judged(
            "R2b",
            "the same, PGD-7 with noise: 5 points or more",
            "+8.72",
            gain(both, "AT", "noise_pgd", pruned=True),
            at_least=0.05,
            **points,
        ),
        Claim.judged(
            "R2c",
            "CNI + lasso over lasso alone, both 85 % pruned",
            "more",
            gain(both, "AT + lasso", "noise_pgd", pruned=True, both=True),
            at_least=MORE,
            **points,
        ),
        Claim("R3", "larger nets bear more of the lasso", "more", "one net here", None, None, "not tested"),
        Claim.judged(
            "R4a",
            "CNI over AT under averaged gradients: 2 points or less",
            "not in the paper",
            gain(cni, "AT", "noise_eot"),
            at_most=0.02,
            **points,
        ),
        Claim.judged(
            "R4b",
            "CNI over AT with the noise off: nothing or less",
            "-7.7 (per layer)",
            gain(cni, "AT", "noise_off_strong"),
            at_most=0,
            **points,
        ),
        Claim.judged(
            "R4c",
            "CNI + lasso, 85 % pruned, over dense AT under averaged gradients: 2 points or less",
            "not in the paper",
            gain(both, "AT", "noise_eot", pruned=True),
            at_most=0.02,
            **points,
        ),
    ]


def side_by_side(found: Found) -> str:
    """Write what every arm measures, dense and pruned."""
    rows = []
    for arm in found:
        for pruned in (False, True):
            cells = [interval(values(found, arm, name, pruned=pruned)).text(100) for name in MEASURES]
            density = interval(values(found, arm, "noise_density", pruned=pruned)).text(100)
            strength = interval(values(found, arm, "noise_strength", pruned=pruned)).text(1, 3)
            rows.append([arm, f"{SPARSITY:.0%} pruned" if pruned else "dense", *cells, density, strength])
    headings = ["", "", "clean", "PGD-7, as the paper", "averaged gradients", "attack without noise"]
    return markdown([*headings, "noise off, clean", "noise off, PGD-20", "density in a pass", "mean coefficient"], rows)


def main() -> None:
    parser = common.arguments(__doc__, "rakin2019")
    parser.add_argument("--net", default="lenet5")
    parser.add_argument("--set-of", default="mnist", help="which data set")
    parser.add_argument("--images", type=int, default=4000, help="of training, beside those of validation")
    parser.add_argument("--examples", type=int, default=500, help="of validation, for the points")
    parser.add_argument("--attacked", type=int, default=128, help="of these, for the metric with averaged gradients")
    parser.add_argument("--eot", type=int, default=16, help="passes for each gradient")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--eps", type=float, default=0.2)
    parser.add_argument("--lasso", type=float, default=2e-5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.tiny:
        small = {"net": "lenet300", "set_of": "digits", "images": 400, "examples": 100, "attacked": 50, "eot": 4}
        vars(options).update(small, epochs=4, eps=0.1, folder=options.folder / "tiny")
    found = run(options)
    what = f"{options.net} on {options.set_of}, {options.images} images, {options.epochs} epochs, eps {options.eps}"
    text = f"{what}, {options.seeds} seeds; in percent, 95 % intervals over seeds\n\n{common.table(claims(found))}"
    common.tell(f"{text}\n{side_by_side(found)}", options.output)


if __name__ == "__main__":
    main()
