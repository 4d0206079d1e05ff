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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import common
import torch
from common import Bench, Claim, markdown

from search.results.verdicts import Arm, Difference, Mean
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
from trainables.store.state import State, Tensors, named_buffers

GAMMA = 0.005
"""How far scores are moved to see what that exchanges, in all arms."""
ARMS = {"neither": (False, False), "s2ap": (True, False), "awp": (False, True), "both": (True, True)}
"""By name, whether scores and whether weights are perturbed."""
CLAIMS = (
    ("S1", "s2ap over neither", "+1 to +2, by a summary of the paper", "s2ap", "neither"),
    ("S2", "s2ap and AWP over AWP", "not entirely due to AWP", "both", "awp"),
    ("W", "AWP over neither", "", "awp", "neither"),
    ("WS", "AWP over s2ap", "", "awp", "s2ap"),
)
"""Id, claim, what is published, and the two arms."""


def trial(arm: str, sparsity: float, seed: int, options: argparse.Namespace) -> TrialSpec:
    """Return the trial of an arm."""
    scores, weights = ARMS[arm]
    train: dict[str, Any] = {
        "batch": options.batch,
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


def search(spec: TrialSpec, bench: Bench) -> tuple[float, float]:
    """Search for the mask of a trial again, from its stored dense network.

    Returns the share of the kept weights that is exchanged from one epoch to the next, on average over the second half,
    and the share that a perturbation by `GAMMA` exchanges at the end.
    """
    data = tensors.load(spec.data, bench.device)
    chain = keyed_phases(spec, data.fingerprint)
    step = next(s for s in chain if isinstance(s.phase, Train) and isinstance(s.phase.weights, Scores))
    assert isinstance(step.phase, Train)
    assert step.parent is not None
    state = bench.stages.load(step.parent)
    assert state is not None
    model = models.build_for(data, spec.model, seed=spec.seed)
    masks, last = [], None
    for epoch in train(model, state, step.phase, data, key=step.key, device=bench.device):
        masks.append(epoch.state().masks)
        last = epoch
    assert last is not None
    late = masks[len(masks) // 2 - 1 :] if len(masks) > 2 else masks
    moved = [exchanged(one, other) for one, other in pairwise(late)]
    end = {group: {name: t.cpu() for name, t in found.items()} for group, found in last.checkpoint().items()}
    return statistics.fmean(moved) if moved else 0.0, flipped(spec, step.phase, state, end)


def flipped(spec: TrialSpec, phase: Train, begun: State, checkpoint: dict[str, Tensors]) -> float:
    """Return the share of the kept weights that a step up the loss of one attacked batch exchanges; on the CPU."""
    data = tensors.load(spec.data)
    model = models.build_for(data, spec.model, seed=0)
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
    shares = {name: GAMMA for name in weights.extras if name.startswith(SCORES)}
    climb(loss, weights.extras, {}, dict(named_buffers(model)), shares)
    return exchanged(before, weights.fold(begun, weights.extras).masks)


def exchanged(one: Tensors, other: Tensors) -> float:
    """Return the share of the weights that one mask keeps, and another of the same size does not."""
    kept = sum(int(mask.sum()) for mask in one.values())
    return sum(int((mask & ~other[name]).sum()) for name, mask in one.items()) / kept


@dataclass(frozen=True)
class Results:
    """What was measured."""

    options: argparse.Namespace
    bench: Bench

    def specs(self, arm: str, sparsity: float) -> list[TrialSpec]:
        return [trial(arm, sparsity, seed, self.options) for seed in range(self.options.seeds)]

    def arm(self, arm: str, sparsity: float, name: str = "robust_accuracy") -> Arm:
        specs = self.specs(arm, sparsity)
        return common.arm([self.bench.points(spec)[-1] for spec in specs], name, common.chance(specs[0]))

    @cached_property
    def searches(self) -> dict[tuple[str, float], list[tuple[float, float]]]:
        return {
            (arm, sparsity): [search(spec, self.bench) for spec in self.specs(arm, sparsity)]
            for arm in ARMS
            for sparsity in self.options.sparsities
        }

    def exchanged(self, arm: str, sparsity: float) -> Arm:
        return Arm.of([moved for moved, _ in self.searches[arm, sparsity]])

    def flipped(self, arm: str, sparsity: float) -> Arm:
        return Arm.of([flips for _, flips in self.searches[arm, sparsity]])


def claims(results: Results) -> Iterator[Claim]:
    """Yield what is claimed, at each sparsity."""
    for sparsity in results.options.sparsities:
        at = f"at {sparsity:.0%}"
        for id, text, paper, ours, theirs in CLAIMS:
            found = Difference(results.arm(ours, sparsity), results.arm(theirs, sparsity))
            yield Claim.bounded(f"{id} {at}", text, paper, found, more_than=0.0)
        calm = Difference(results.exchanged("s2ap", sparsity), results.exchanged("neither", sparsity))
        text = "masks change less from epoch to epoch (share of the kept weights)"
        yield Claim.bounded(f"M {at}", text, "falls", calm, digits=2, less_than=0.0)


def levels(results: Results) -> str:
    rows = [
        [
            arm,
            f"{sparsity:.0%}",
            Mean(results.arm(arm, sparsity)).interval().text(100),
            Mean(results.arm(arm, sparsity, "clean_accuracy")).interval().text(100),
            Mean(results.exchanged(arm, sparsity)).interval().text(100, 2),
            Mean(results.flipped(arm, sparsity)).interval().text(100, 2),
        ]
        for arm in ARMS
        for sparsity in results.options.sparsities
    ]
    headings = ("arm", "sparsity", "robust", "clean", "kept weights exchanged an epoch", "by one perturbation")
    return markdown(headings, rows)


def report(options: argparse.Namespace, bench: Bench) -> Iterator[str]:
    results = Results(options, bench)
    epochs = f"{options.epochs} + {options.prune_epochs} + {options.epochs} epochs of TRADES"
    yield (
        f"hydra, {options.net} on {options.set_of}, {options.images} images, {epochs}, learning rate {options.lr:g}, "
        f"eps {options.eps}, {options.gamma:g} for both perturbations, PGD-40x2, {options.seeds} seeds; in percent. "
        f"{common.READING}\n"
    )
    yield common.table(claims(results))
    yield levels(results)


def trials(options: argparse.Namespace) -> Iterator[TrialSpec]:
    """Yield all arms at all sparsities with all seeds."""
    for seed in range(options.seeds):
        yield from (trial(arm, sparsity, seed, options) for sparsity in options.sparsities for arm in ARMS)


def parsed(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = common.arguments(__doc__, "s2ap")
    parser.add_argument("--net", default="lenet300")
    parser.add_argument("--set-of", default="digits", help="which data set")
    parser.add_argument("--images", type=int, default=1000, help="of training, beside those of validation")
    parser.add_argument("--examples", type=int, default=400, help="of validation")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20, help="of the dense training, and of the fine-tuning")
    parser.add_argument("--prune-epochs", type=int, default=8)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.9, 0.99])
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--eps", default="0.1")
    parser.add_argument("--gamma", type=float, default=0.005, help="of both perturbations; AWP's own with TRADES")
    parser.set_defaults(seeds=5)
    options = parser.parse_args(given)
    if options.tiny:
        small = {"images": 200, "examples": 100, "epochs": 2, "prune_epochs": 3, "sparsities": [0.9], "seeds": 2}
        vars(options).update(small, folder=options.folder / "tiny")
    return options


if __name__ == "__main__":
    common.run(parsed(), trials, report)
