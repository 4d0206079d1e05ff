"""Which of torchvision's classifiers can be searched: each by name, untrained, on images of 32x32 and of its own size.

Prints the table of docs/manual/torchvision.md. For each it builds the network, then runs what a launch runs before its
first trial: passes in training and eval mode, and a small trial that prunes, trains and measures. Networks of more than
100 million parameters are built and run on tensors without content, but not trained. Nothing is downloaded.

    python benchmarks/torchvision_classifiers.py [NAME ...] > table.md
"""

from __future__ import annotations

import math
import sys
import time
import warnings

import torch
from torchvision import models as torchvision_models

from trainables.core.errors import SpecError
from trainables.data.tensors import Split, TrainingData
from trainables.models import MODELS
from trainables.models.checks import check_trainable
from trainables.models.normalised import outline
from trainables.models.share import Share
from trainables.recipes.trial import TrialSpec
from trainables.worker.probe import _network
from trainables.worker.rehearsal import run_small

CLASSES = 10
LARGEST = 100_000_000


def own_size(name: str) -> int:
    """Return the size of the images that the published weights were trained for, in pixels."""
    if name.startswith("vit_"):
        return 224  # That of the network as it is built without weights; some weights are for larger ones.
    return int(torchvision_models.get_model_weights(name).DEFAULT.transforms().crop_size[0])


def images(size: int) -> TrainingData:
    """Return random images."""
    x = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(x, torch.arange(4), 255.0)
    mean, std = (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)
    return TrainingData(split, split, CLASSES, (3, size, size), mean, std, "0" * 64, "0" * 64)


def trial(name: str) -> TrialSpec:
    """Return the trial that is run in small: prune, train, measure."""
    attack = {"kind": "pgd", "steps": 1}
    train = {"attack": attack, "precision": "fp32"}
    recipe = {"kind": "shi2022", "method": "prune", "sparsity": 0.5, "train": train}
    model = {"kind": "torchvision", "name": name}
    fields = {"model": model, "recipe": recipe, "data": "digits", "protocol": {"attack": attack}}
    return TrialSpec.model_validate(fields)


def tried(name: str, size: int) -> tuple[str, Share | None]:
    """Return `yes`, `built` where it is too large to train here, or why not; and the share that is prunable."""
    spec, data = MODELS.parse({"kind": "torchvision", "name": name}), images(size)
    try:
        net = outline(spec, (3, size, size), CLASSES, 0)
        check_trainable(spec, net)
        share = Share.of(name, net)
        if share.parameters > LARGEST:
            return "built", share
        _network(spec, data, 0)
        run_small(trial(name), data, torch.device("cpu"))
    except SpecError as error:
        return f"no: {error}", None
    return "yes", share


def _percent(share: Share) -> float:
    return math.floor(1000 * share.prunable / share.parameters) / 10


def main() -> None:
    """Print a row for each classifier."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = sys.argv[1:] or torchvision_models.list_models(module=torchvision_models)
    print("| classifier | at 32x32 | own size | at own size | parameters | prunable |", "| --- " * 6 + "|", sep="\n")
    for name in names:
        began, size = time.monotonic(), own_size(name)
        small, share = tried(name, 32)
        large, larger = tried(name, size)
        found = share or larger
        counted = (
            f"{found.parameters:,} | {math.floor(1000 * found.prunable / found.parameters) / 10} %" if found else "| "
        )
        answers = [answer.partition(":")[0] for answer in (small, large)]
        print(f"| `{name}` | {answers[0]} | {size}x{size} | {answers[1]} | {counted} |", flush=True)
        reasons = "; ".join(answer for answer in (small, large) if answer.startswith("no"))
        print(f"{name}: {time.monotonic() - began:.0f} s {reasons}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
