r"""Compare strong pruners: one small task, the same training budget for each, one protocol, at 90, 95 and 99 %.

Every method trains about `--epochs` epochs in total for one sparsity, divided as published (100, 20 and 100 for learned
masks, thirds for R-ADMM, a cut after a tenth for TwinRep), with the same loss and attack; imp takes what its rounds
take. The claims come from the methods' own tables and from the benchmark of Piras et al. 2024 (AutoAttack, ResNet-18 on
CIFAR-10), so ours only tell whether the order is the same at this size. `filter` prunes whole filters: a harder task
that really saves work; for the other masks, "work left" is counted, not measured. "mad without masks" is the control of
`mad`.

    python benchmarks/papers/strong_pruners.py --data DATA    # LeNet-300-100, MNIST; about 20 minutes
    python benchmarks/papers/strong_pruners.py --tiny         # digits, under a minute
    python benchmarks/papers/strong_pruners.py --net resnet18 --set-of cifar10 --eps 8/255 --epochs 100 --seeds 1 \
        --images 45000 --device cuda --init kaiming_uniform
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import common
from common import Claim, Interval, interval, markdown, paired

from trainables.data import tensors
from trainables.method.phases import Measure
from trainables.recipes.trial import TrialSpec, keyed_phases
from trainables.store.records import Point
from trainables.store.stages import Stages
from trainables.store.storage import Storage

SPARSITIES = (0.9, 0.95, 0.99)
BATCH = 128
MORE = 1e-9
"""Two networks at chance are equal; that is no more."""


def _learned(options: argparse.Namespace) -> dict[str, Any]:
    part = max(1, round(options.epochs * 5 / 11))
    return {"epochs": part, "prune_epochs": max(1, options.epochs - 2 * part), "finetune_epochs": part}


def _pulled(options: argparse.Namespace) -> dict[str, Any]:
    part = max(1, options.epochs // 3)
    fields = {"epochs": part, "admm_epochs": part, "retrain_epochs": options.epochs - 2 * part}
    # As strong in all as rho is in the steps of 200 epochs of 50,000 images in batches of 128.
    rho = 1e-3 * (200 * 391) / (part * -(-options.images // BATCH))
    return {**fields, "update_epochs": max(1, part // 10), "rho": float(f"{rho:.2g}")}


def _steps(options: argparse.Namespace, share: float) -> int:
    """Return so much of all steps of the budget, at least one."""
    return max(1, round(share * options.epochs * -(-options.images // BATCH)))


METHODS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "three_stage": lambda o: {"epochs": o.epochs // 2, "finetune_epochs": o.epochs - o.epochs // 2},
    "imp": lambda o: {"epochs": o.epochs // 2, "rate": 0.5, "rewind": "none", "round_epochs": max(1, o.epochs // 8)},
    "hydra": _learned,
    "harp": _learned,
    "radmm": _pulled,
    "twin_rep": lambda o: {"epochs": o.epochs, "prune_epoch": max(1, o.epochs // 10), "init": o.init},
    # Its saliency takes the time of some epochs more, which is in the seconds.
    "mad": lambda o: {"epochs": o.epochs // 2, "finetune_epochs": o.epochs - o.epochs // 2},
    # The same without its masks.
    "mad without masks": lambda o: {
        "kind": "mad",
        "prune": {"pruner": {"kind": "mad", "mask": False, "blocks": "weight"}},
        **METHODS["mad"](o),
    },
    # Published are 900 of the steps of 200 epochs of 45,000 images in batches of 128.
    "flying_bird": lambda o: {"epochs": o.epochs, "dynamics": {"every": _steps(o, 900 / (200 * 352))}},
    "gradual": lambda o: {"epochs": o.epochs, "every": _steps(o, 1 / 40)},
    "filter": lambda o: {"epochs": o.epochs // 2, "finetune_epochs": o.epochs - o.epochs // 2},
}
"""By recipe, or under a name of its own, the fields for a budget of epochs."""

Found = Mapping[tuple[str, float], list[tuple[Point, float]]]


def trial(method: str, sparsity: float, seed: int, options: argparse.Namespace) -> TrialSpec:
    """Return the trial of a method at a sparsity."""
    train = {
        "batch": BATCH,
        "optimiser": {"kind": "sgd", "lr": options.lr, "weight_decay": 1e-4},
        "schedule": "cosine",
        "loss": options.loss,
        "attack": {"kind": "pgd", "steps": 7, "step_size": 0.25},
        "eps": options.eps,
    }
    if options.net.startswith("resnet"):
        train |= {"crop": 4, "flip": True}
    described = {
        "data": common.data(options.set_of, options.data, limit=options.images, validation=options.examples),
        "model": options.net,
        "recipe": {"kind": method, "sparsity": sparsity, "train": train, **METHODS[method](options)},
        "protocol": {"eps": options.eps, "attack": {"kind": "pgd", "steps": 40, "restarts": 2}},
        "seed": seed,
    }
    return TrialSpec.model_validate(described)


def seconds(spec: TrialSpec, options: argparse.Namespace) -> float:
    """Return the seconds that the trial's stages took, shared ones as well."""
    stages = Stages(Storage(str(options.folder)))
    fingerprint = tensors.load(spec.data).fingerprint
    chain = [step for step in keyed_phases(spec, fingerprint) if not isinstance(step.phase, Measure)]
    return sum(stage.seconds for step in chain if (stage := stages.find(step.key)) is not None)


def run(options: argparse.Namespace) -> Found:
    """Run all methods at all sparsities with all seeds, and return the last point of each with its seconds."""
    found: dict[tuple[str, float], list[tuple[Point, float]]] = {}
    for seed in range(options.seeds):
        for method in METHODS:
            for sparsity in SPARSITIES:
                spec = trial(method, sparsity, seed, options)
                last = common.points(spec, options.folder, options.device)[-1]
                found.setdefault((method, sparsity), []).append((last, seconds(spec, options)))
    return found


def claims(found: Found) -> list[Claim]:
    """Judge what the methods' papers and the benchmark say of their order."""

    def robust(method: str, sparsity: float) -> list[float]:
        return [point.robust_accuracy for point, _ in found[method, sparsity]]

    def gain(method: str, over: str, sparsity: float) -> Interval:
        return paired(robust(method, sparsity), robust(over, sparsity))

    points: dict[str, Any] = {"scale": 100}
    judged = [
        Claim.judged(
            "H1",
            "hydra over magnitude at 99 %",
            "+7.4 (VGG-16), +10.0 (WRN-28-4)",
            gain("hydra", "three_stage", 0.99),
            at_least=MORE,
            **points,
        ),
        Claim.judged(
            "H2", "the same at 90 %", "+0.7, +1.4", gain("hydra", "three_stage", 0.9), at_least=MORE, **points
        ),
        Claim.judged("P1", "harp over hydra at 99 %", "+6.7", gain("harp", "hydra", 0.99), at_least=MORE, **points),
        Claim.judged(
            "P2",
            "harp from 90 to 99 %: a point or less is lost",
            "+0.1",
            paired(robust("harp", 0.99), robust("harp", 0.9)),
            at_least=-0.01,
            **points,
        ),
        Claim.judged(
            "A1",
            "radmm over magnitude at 99 %",
            "+10.5 (ResNet-18), +6.8 (VGG-16), read off a figure of MAD's README",
            gain("radmm", "three_stage", 0.99),
            at_least=MORE,
            **points,
        ),
        Claim.judged("A2", "radmm at 99 % is below hydra", "-1.6", gain("radmm", "hydra", 0.99), at_most=0, **points),
        Claim.judged(
            "T1", "twin_rep at 99 % is below hydra", "-2.7", gain("twin_rep", "hydra", 0.99), at_most=0, **points
        ),
    ]
    for number, (over, sparsity, published) in enumerate((("hydra", 0.9, "+3.2"), ("harp", 0.95, "+0.4")), start=1):
        text = f"flying_bird over {over} at {sparsity:.0%}"
        bird = gain("flying_bird", over, sparsity)
        judged.append(Claim.judged(f"F{number}", text, published, bird, at_least=MORE, **points))
    bird = gain("flying_bird", "harp", 0.99)
    judged.append(Claim.judged("F3", "flying_bird at 99 % is below harp", "-3.5", bird, at_most=0, **points))
    for number, (over, sparsity, published) in enumerate(
        (
            ("three_stage", 0.99, "+13.6 (VGG-16), +20.0 (ResNet-18)"),
            ("hydra", 0.99, "+2.7, +4.7; by AutoAttack -9.5"),
            ("hydra", 0.9, "+4.4, +0.4"),
        ),
        start=1,
    ):
        text = f"mad over {'magnitude' if over == 'three_stage' else over} at {sparsity:.0%}"
        judged.append(Claim.judged(f"M{number}", text, published, gain("mad", over, sparsity), at_least=MORE, **points))
    return judged


def results(found: Found) -> str:
    """Write what every method measures at every sparsity, and what it costs."""
    rows = []
    for (method, sparsity), runs in found.items():
        robust = interval(point.robust_accuracy for point, _ in runs).text(100)
        clean = interval(point.clean_accuracy for point, _ in runs).text(100)
        epochs = interval(point.epochs_trained + point.epochs_shared for point, _ in runs).mean
        took = interval(time for _, time in runs).mean
        macs = interval(point.macs_effective / point.macs_dense for point, _ in runs).mean
        rows.append([method, f"{sparsity:.0%}", robust, clean, f"{macs:.1%}", f"{epochs:g}", f"{took:.0f}"])
    return markdown(["", "sparsity", "robust", "clean", "work left", "epochs", "seconds of training"], rows)


def main() -> None:
    parser = common.arguments(__doc__, "strong_pruners")
    parser.add_argument("--net", default="lenet300")
    parser.add_argument("--set-of", default="mnist", help="which data set")
    parser.add_argument("--images", type=int, default=6000, help="of training, beside those of validation")
    parser.add_argument("--examples", type=int, default=1000, help="of validation")
    parser.add_argument("--epochs", type=int, default=22, help="of each method for one sparsity, in all")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--eps", default="0.1")
    parser.add_argument("--loss", default="madry")
    parser.add_argument("--init", default="ones", help="of TwinRep's second factors; kaiming_uniform is published")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.tiny:
        small = {"set_of": "digits", "images": 400, "examples": 100, "epochs": 11}
        vars(options).update(small, folder=options.folder / "tiny")
    found = run(options)
    what = f"{options.net} on {options.set_of}, {options.images} images, {options.epochs} epochs, {options.loss}"
    intro = f"{what}, eps {options.eps}, PGD-40x2, {options.seeds} seeds; in percent, 95 % intervals over seeds"
    common.tell(f"{intro}\n\n{common.table(claims(found))}\n{results(found)}", options.output)


if __name__ == "__main__":
    main()
