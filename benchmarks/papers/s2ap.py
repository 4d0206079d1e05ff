r"""Ablate s2ap, sharpness-aware scores, against adversarial weight perturbation (AWP), with hydra.

Four arms: neither, s2ap while the mask is learned, AWP in the trainings of the weights, both. All else is equal:
network, images, epochs, loss (TRADES, as published), attack, and the dense network of a seed, which arms with the same
AWP share. So AWP is equal on both sides wherever s2ap is judged. Differences are paired by seed; intervals are over
seeds, on the same images. Also measured, in the search for the mask: how many of the kept weights are exchanged from
one epoch to the next, and how many the perturbation exchanges at the end, without which s2ap would do nothing.

    python benchmarks/papers/s2ap.py                                          # digits, a few minutes
    python benchmarks/papers/s2ap.py --set-of fashion_mnist --images 6000     # an hour
    python benchmarks/papers/s2ap.py --tiny                                   # a dry run
"""

from __future__ import annotations

import argparse
import statistics
from itertools import pairwise
from typing import Any

import common
import torch
from common import interval, markdown, paired

from trainables import models
from trainables.core.rng import generator
from trainables.data import tensors
from trainables.engine.awp import climb
from trainables.engine.train import train
from trainables.losses.base import Adversary
from trainables.method.phases import Train
from trainables.recipes.trial import TrialSpec, keyed_phases
from trainables.reparametrisations.learned import Scores
from trainables.reparametrisations.learned_weights import SCORES
from trainables.reparametrisations.network import ReparametrisedNetwork
from trainables.store.stages import Stages
from trainables.store.state import State, Tensors, named_buffers
from trainables.store.storage import Storage

ARMS = {"neither": (False, False), "s2ap": (True, False), "awp": (False, True), "both": (True, True)}
"""By name, whether scores and whether weights are perturbed."""
PAIRS = (("s2ap", "neither"), ("both", "awp"), ("awp", "neither"), ("both", "s2ap"))


def trial(arm: str, sparsity: float, seed: int, options: argparse.Namespace) -> TrialSpec:
    """Return the trial of an arm."""
    scores, weights = ARMS[arm]
    train: dict[str, Any] = {
        "batch": 128,
        "optimiser": {"kind": "sgd", "lr": options.lr, "weight_decay": 1e-4},
        "eps": options.eps,
        "precision": "fp32",
        "awp": options.gamma if weights else 0.0,
    }
    recipe = {
        "kind": "hydra",
        "sparsity": sparsity,
        "epochs": options.epochs,
        "prune_epochs": options.prune_epochs,
        "finetune_epochs": options.epochs,
        "s2ap": options.gamma if scores else 0.0,
        "train": train,
    }
    described = {
        "data": common.data(options.set_of, options.data, limit=options.images, validation=options.examples),
        "model": options.net,
        "recipe": recipe,
        "protocol": {"eps": options.eps, "attack": {"kind": "pgd", "steps": 40, "restarts": 2}},
        "seed": seed,
    }
    return TrialSpec.model_validate(described)


def search(spec: TrialSpec, options: argparse.Namespace) -> tuple[float, float]:
    """Search for the mask of a trial again, from its stored dense network.

    Returns the share of the kept weights that is exchanged from one epoch to the next, on average over the second half,
    and the share that a perturbation by `--gamma` exchanges at the end.
    """
    data = tensors.load(spec.data)
    chain = keyed_phases(spec, data.fingerprint)
    step = next(s for s in chain if isinstance(s.phase, Train) and isinstance(s.phase.weights, Scores))
    assert isinstance(step.phase, Train)
    assert step.parent is not None
    state = Stages(Storage(str(options.folder))).load(step.parent)
    assert state is not None
    model = models.build(
        spec.model, shape=data.shape, classes=data.classes, mean=data.mean, std=data.std, seed=spec.seed
    )
    masks, last = [], None
    for epoch in train(model, state, step.phase, data, key=step.key, device="cpu"):
        masks.append(epoch.state().masks)
        last = epoch
    assert last is not None
    late = masks[len(masks) // 2 - 1 :] if len(masks) > 2 else masks
    moved = [exchanged(one, other) for one, other in pairwise(late)]
    return statistics.fmean(moved) if moved else 0.0, flipped(spec, step.phase, state, last.checkpoint(), options)


def flipped(
    spec: TrialSpec, phase: Train, begun: State, checkpoint: dict[str, Tensors], options: argparse.Namespace
) -> float:
    """Return the share of the kept weights that a step up the loss of one attacked batch exchanges."""
    data = tensors.load(spec.data)
    model = models.build(spec.model, shape=data.shape, classes=data.classes, mean=data.mean, std=data.std, seed=0)
    State({**begun.params, **checkpoint["params"]}, checkpoint["buffers"]).into(model)
    own = State(dict(model.named_parameters()), dict(named_buffers(model)), begun.masks)
    weights = phase.weights.build(own, torch.Generator(), model, data.shape)
    assert weights is not None
    with torch.no_grad():
        for name, scores in weights.extras.items():
            scores.copy_(checkpoint["extras"][name])
    seen = ReparametrisedNetwork(model.train(), weights)
    draws = generator("flipped", 0, "attack")
    x, y = data.train.pixels(slice(512)), data.train.y[:512]
    training = phase.training
    adversary = Adversary(training.attack, lambda z: seen.forward(z, draws), float(training.eps), draws, "true")

    def loss() -> torch.Tensor:
        return training.loss.terms(lambda z: seen.forward(z, draws), adversary, x, y, 0.0).loss

    before = weights.fold(begun, weights.extras).masks
    shares = {name: options.gamma for name in weights.extras if name.startswith(SCORES)}
    climb(loss, weights.extras, {}, dict(named_buffers(model)), shares)
    return exchanged(before, weights.fold(begun, weights.extras).masks)


def exchanged(one: Tensors, other: Tensors) -> float:
    """Return the share of the weights that one mask keeps, and another of the same size does not."""
    kept = sum(int(mask.sum()) for mask in one.values())
    return sum(int((mask & ~other[name]).sum()) for name, mask in one.items()) / kept


def report(options: argparse.Namespace) -> str:
    """Run all arms with all seeds, and return the tables."""
    robust: dict[tuple[str, float], list[float]] = {}
    clean: dict[tuple[str, float], list[float]] = {}
    moves: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for seed in range(options.seeds):
        for sparsity in options.sparsities:
            for arm in ARMS:
                spec = trial(arm, sparsity, seed, options)
                last = common.points(spec, options.folder)[-1]
                robust.setdefault((arm, sparsity), []).append(last.robust_accuracy)
                clean.setdefault((arm, sparsity), []).append(last.clean_accuracy)
                moves.setdefault((arm, sparsity), []).append(search(spec, options))
                row = (arm, sparsity, seed, last.robust_accuracy, last.clean_accuracy, *moves[arm, sparsity][-1])
                print(*row, flush=True)
    levels = [
        (
            arm,
            f"{sparsity:g}",
            interval(robust[arm, sparsity]).text(100),
            interval(clean[arm, sparsity]).text(100),
            interval(a for a, _ in moves[arm, sparsity]).text(100),
            interval(b for _, b in moves[arm, sparsity]).text(100),
        )
        for sparsity in options.sparsities
        for arm in ARMS
    ]
    gains = [
        (
            f"{ours} - {theirs}",
            f"{sparsity:g}",
            paired(robust[ours, sparsity], robust[theirs, sparsity]).text(100),
            paired(clean[ours, sparsity], clean[theirs, sparsity]).text(100),
            paired([a for a, _ in moves[ours, sparsity]], [a for a, _ in moves[theirs, sparsity]]).text(100),
        )
        for sparsity in options.sparsities
        for ours, theirs in PAIRS
    ]
    headings = ("arm", "sparsity", "robust", "clean", "kept weights exchanged an epoch", "by the perturbation")
    differences = ("difference", "sparsity", "robust", "clean", "kept weights exchanged an epoch")
    return f"{markdown(headings, levels)}\n{markdown(differences, gains)}"


def main() -> None:
    parser = common.arguments(__doc__, "s2ap")
    parser.add_argument("--net", default="lenet300")
    parser.add_argument("--set-of", default="digits", help="which data set")
    parser.add_argument("--images", type=int, default=1000, help="of training, beside those of validation")
    parser.add_argument("--examples", type=int, default=400, help="of validation")
    parser.add_argument("--epochs", type=int, default=20, help="of the dense training, and of the fine-tuning")
    parser.add_argument("--prune-epochs", type=int, default=8)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.9, 0.99])
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--eps", default="0.1")
    parser.add_argument(
        "--gamma", type=float, default=0.005, help="of both perturbations: published for AWP with TRADES"
    )
    parser.set_defaults(seeds=5)
    options = parser.parse_args()
    if options.tiny:
        small = {"images": 300, "examples": 100, "epochs": 2, "prune_epochs": 2, "sparsities": [0.9], "seeds": 2}
        vars(options).update(small, folder=options.folder / "tiny")
    what = (
        f"hydra, {options.net}, {options.set_of}: {options.images} images, {options.epochs} + {options.prune_epochs} + "
    )
    what += (
        f"{options.epochs} epochs of TRADES, learning rate {options.lr:g}, eps {options.eps}, gamma {options.gamma:g}; "
    )
    what += (
        f"PGD-40x2 on {options.examples} validation images, {options.seeds} seeds; percent, 95 % intervals over seeds"
    )
    common.tell(f"{what}\n\n{report(options)}", options.output)


if __name__ == "__main__":
    main()
