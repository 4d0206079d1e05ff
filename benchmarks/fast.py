"""Compare fast adversarial training, with and without its guard, to training against PGD-7.

Trains LeNet-5 per seed against FGSM, without a random start and with one, each with and without a guard (PGD-7), and
against PGD-7; all with a ramp of the radius, and the epoch selected that is most robust on 500 images held back. Prints
the robust accuracy on the validation images under PGD-40, that of the last epoch on the images held back, the CPU
seconds, and how many epochs were the guard's. FGSM without a random start is known to be overfitted to (Wong et al.
2020, arXiv:2001.03994).

    python benchmarks/fast.py                      # MNIST, l_inf 0.3, about 20 minutes on one core
    python benchmarks/fast.py --warmup 0           # collapses, and PGD-7 learns nothing within 0.3 from the start
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from precision import load, trained, verdicts

from trainables.attacks.pgd import Fgsm, Pgd
from trainables.data.tensors import TrainingData
from trainables.engine.selection import collapsed
from trainables.method.phases import Train
from trainables.method.schedules import SCHEDULES
from trainables.method.training import Training
from trainables.optimisers.sgd import Sgd

BEST = Pgd(steps=7)
ARMS: dict[str, dict[str, Any]] = {
    "FGSM, no random start": {"attack": Fgsm(random_start=False, step_size=1.0)},
    "the same, guarded": {"attack": Fgsm(random_start=False, step_size=1.0), "guard": BEST},
    "FGSM": {"attack": Fgsm()},
    "FGSM, guarded": {"attack": Fgsm(), "guard": BEST},
    "PGD-7": {"attack": BEST},
}
HELD_BACK = 500


def measured(data: TrainingData, arm: dict[str, Any], seed: int, options: argparse.Namespace) -> tuple[float, ...]:
    """Return robust accuracy, that of the last epoch on images held back, seconds, and the guard's epochs."""
    began = time.process_time()
    training = Training(
        batch=64,
        optimiser=Sgd(lr=0.05),
        schedule=SCHEDULES[options.schedule](),
        eps=options.eps,
        eps_warmup=options.warmup,
        select=HELD_BACK,
        precision="fp32",
        **arm,
    )
    net, epochs = trained(data, "lenet5", Train(epochs=options.epochs, training=training), seed)
    seconds = time.process_time() - began
    robust = [epoch.held_back.robust_accuracy for epoch in epochs if epoch.held_back is not None]
    guarded = sum(collapsed(robust[:at]) for at in range(options.epochs)) if "guard" in arm else 0
    accuracy = verdicts(net, data, Pgd(steps=40), eps=options.eps).float().mean().item()
    return accuracy, robust[-1], seconds, guarded


def main() -> None:
    """Read the command line, train, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, default=8_000, help="training images")
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--warmup", type=float, default=2.0, help="epochs over which the radius rises; 0 for none")
    parser.add_argument("--schedule", choices=("constant", "cosine"), default="constant", help="of the learning rate")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, name = load(args.limit)
    print(f"torch {torch.__version__}, lenet5 on {len(data.train)} images of {name}")
    print(f"{args.epochs} epochs, {args.schedule} learning rate, a ramp of the radius of {args.warmup:g} epochs")
    print(f"{len(data.validation)} validation images, {HELD_BACK} held back, eps {args.eps}; a number for each seed\n")
    print("| training | PGD-40 % | last epoch, held back % | CPU seconds | epochs of the guard |")
    print("| --- | --- | --- | --- | --- |")
    for label, arm in ARMS.items():
        found = [measured(data, arm, seed, args) for seed in range(args.seeds)]
        robust, last, seconds, guarded = zip(*found, strict=True)
        columns = [
            " / ".join(f"{100 * share:.1f}" for share in robust),
            " / ".join(f"{100 * share:.1f}" for share in last),
            " / ".join(f"{each:.0f}" for each in seconds),
            " / ".join(str(each) for each in guarded),
        ]
        print(f"| {label} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
