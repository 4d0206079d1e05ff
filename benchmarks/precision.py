"""Test whether training in bf16 costs robust accuracy, and whether evaluating in it changes verdicts.

Trains LeNet-300-100 with PGD-7 once in fp32 and once in bf16 per seed (the seed determines initial weights, order and
attack draws), measures both in fp32 with PGD-20 on the same validation images, and prints the paired differences with a
95 % t interval. Then attacks one fp32-trained network through its fp32 and its bf16 frozen copy from the same starts,
and prints the share of images whose verdicts, both evaluated in fp32, differ.

    python benchmarks/precision.py                # MNIST from $ROBUSTSEARCH_DATA if it is there, otherwise the digits
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from scipy import stats
from torch import Tensor, nn

from trainables import attacks, models
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.attacks.verdicts import correct
from trainables.core.errors import DataError
from trainables.core.precision import Resolved
from trainables.core.rng import generator
from trainables.data import DATASETS, tensors
from trainables.data.tensors import TrainingData
from trainables.engine.epoch import Epoch
from trainables.engine.train import train
from trainables.method.phases import Train
from trainables.method.training import Training
from trainables.models import MODELS
from trainables.models.graph.folding import FrozenAttackModel
from trainables.optimisers.sgd import Sgd
from trainables.store.state import State

PRECISIONS: tuple[Resolved, ...] = ("fp32", "bf16")
ATTACK = Pgd(steps=20)


def load(limit: int) -> tuple[TrainingData, str]:
    """Return `limit` MNIST training images and 5,000 for validation, or the digits where MNIST is not at hand."""
    try:
        return tensors.load(DATASETS["mnist"](limit=limit)), "mnist"
    except DataError:
        return tensors.load(DATASETS["digits"]()), "digits"


def trained(data: TrainingData, net: str, phase: Train, seed: int) -> tuple[nn.Module, list[Epoch]]:
    """Train a network from the initial weights of a seed; return it in eval mode, and what its epochs gave."""
    model = models.build_for(data, MODELS[net](), seed=seed)
    epochs = list(train(model, State.of(model), phase, data, key=f"seed {seed}", device="cpu"))
    return epochs[-1].state().into(model).eval(), epochs


def verdicts(
    model: nn.Module, data: TrainingData, attack: Attack, *, eps: float, through: Resolved | None = None
) -> Tensor:
    """Return which validation images are classified correctly clean and attacked.

    The attack sees the network itself, or `through` its frozen copy in a precision.
    """
    found = []
    for number, index in enumerate(torch.arange(len(data.validation)).split(500)):
        x, y = data.validation.pixels(index), data.validation.y[index]
        seen = model if through is None else FrozenAttackModel(model, through, x[:8])
        draws = generator("precision", number, "attack")
        adversarial = attacks.run(attack, seen, x, y, eps=eps, generator=draws)
        with torch.no_grad():
            found.append(correct(model(adversarial), y) & correct(model(x), y))
    return torch.cat(found)


def main() -> None:
    """Read the command line, measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, default=20_000, help="training images")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, name = load(args.limit)
    print(f"torch {torch.__version__}, {name}, {len(data.train)} images, {args.epochs} epochs, eps {args.eps}")
    accuracies: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    models_fp32: list[nn.Module] = []
    for seed in range(args.seeds):
        for precision in PRECISIONS:
            began = time.process_time()
            training = Training(
                optimiser=Sgd(lr=0.05),
                eps=args.eps,
                eps_warmup=args.epochs / 3,
                attack=Pgd(steps=7),
                precision=precision,
            )
            model, _ = trained(data, "lenet300", Train(epochs=args.epochs, training=training), seed)
            seconds[precision].append(time.process_time() - began)
            robust = verdicts(model, data, ATTACK, eps=args.eps, through="fp32")
            accuracies[precision].append(robust.float().mean().item())
            if precision == "fp32":
                models_fp32.append(model)
        print(
            f"seed {seed}: " + ", ".join(f"{p} {accuracies[p][-1]:.4f} in {seconds[p][-1]:.1f} s" for p in PRECISIONS)
        )
    result = {"data": name, "accuracies": accuracies, "seconds": seconds, **compared(accuracies)}
    print(
        "bf16 less fp32: {mean:+.2%} (95 % interval {low:+.2%} to {high:+.2%}, {n} seeds);".format(**result),
        f"spread of fp32 over seeds {statistics.stdev(accuracies['fp32']):.2%}; goal: interval within half a point",
    )
    exact, half = (verdicts(models_fp32[0], data, ATTACK, eps=args.eps, through=through) for through in PRECISIONS)
    result["differing"] = (exact != half).float().mean().item()
    print(f"PGD-20 verdicts that differ: {result['differing']:.2%} of {len(exact)} (goal: at most 0.2 %)")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def compared(accuracies: dict[str, list[float]]) -> dict[str, Any]:
    """Return the mean paired difference and its 95 % t interval."""
    differences = [b - a for a, b in zip(accuracies["fp32"], accuracies["bf16"], strict=True)]
    mean, n = statistics.mean(differences), len(differences)
    half = stats.t.ppf(0.975, n - 1) * statistics.stdev(differences) / n**0.5
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


if __name__ == "__main__":
    main()
