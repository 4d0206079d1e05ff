"""Compare the speed of our training step with the usual ways to train adversarially, in one process on one thread.

Rounds are interleaved, so that changes of the machine's speed affect all of them alike. Prints images per CPU-second,
as the median over rounds with the spread (lowest to highest), and the ratio to torchattacks per round.

    python benchmarks/train_step.py                    # about five minutes on one core
    python benchmarks/train_step.py --nets lenet300 lenet5 --rounds 9 --json speed.json
    python benchmarks/train_step.py --pair             # two trials on two cores against one

For a GPU there is `benchmarks/gpu.py`.

torchattacks pins an old `requests` but works without it: `pip install --no-deps torchattacks`. Without torchattacks,
its column is omitted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from ways import NETS, WAYS, make_setup, ours

BATCHES = {"lenet300": 40, "lenet5": 8, "resnet20": 2, "resnet18": 1}
ROUNDS = {"lenet300": 7, "lenet5": 7, "resnet20": 5, "resnet18": 3}
GOALS = {
    "ours bf16": {"lenet300": 2.4, "lenet5": 2.2, "resnet20": 2.0, "resnet18": 1.9},
    "ours fp32": {"lenet300": 1.25, "lenet5": 1.7, "resnet20": 1.2, "resnet18": 1.05},
}


def compare(net: str, ways: list[str], *, rounds: int, batch: int, steps: int) -> dict[str, Any]:
    """Run all ways in turn, `rounds` times after a round of warming up."""
    images = BATCHES[net] * batch
    shared, source = make_setup(net, images=images, batch=batch, steps=steps, device=torch.device("cpu"))
    running = {way: WAYS[way](shared) for way in ways}
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        # Each round starts with another way, so that none is always first after another.
        turn = number % len(ways)
        for way in ways[turn:] + ways[:turn]:
            began = time.process_time()
            next(running[way])
            if number:
                speeds[way].append(images / (time.process_time() - began))
    return {"net": net, "data": source, "batch": batch, "steps": steps, "images_per_cpu_second": speeds}


def show(result: dict[str, Any]) -> None:
    """Print one network's table."""
    speeds = result["images_per_cpu_second"]
    print(f"\n{result['net']}, PGD-{result['steps']}, batch {result['batch']}, {result['data']}")
    print(f"  {'':<14}{'images / CPU-s':>16}{'spread':>22}{'x torchattacks':>16}{'goal':>8}")
    for way, found in speeds.items():
        spread = f"{min(found):.1f} to {max(found):.1f}"
        ratio = ""
        if "torchattacks" in speeds:
            ratio = f"{statistics.median(a / b for a, b in zip(found, speeds['torchattacks'], strict=True)):.2f}"
        goal = GOALS.get(way, {}).get(result["net"], "")
        print(f"  {way:<14}{statistics.median(found):>16.1f}{spread:>22}{ratio:>16}{goal:>8}")
    sys.stdout.flush()


def pair(net: str, seconds: float) -> dict[str, Any]:
    """Count the images of one trial alone, then of two at the same time, a thread each."""
    context = multiprocessing.get_context("spawn")
    counts = {}
    for trials in (1, 2):
        barrier, queue = context.Barrier(trials), context.Queue()
        workers = [context.Process(target=_trial, args=(net, seconds, barrier, queue)) for _ in range(trials)]
        for worker in workers:
            worker.start()
        counts[trials] = sum(queue.get() for _ in workers)
        for worker in workers:
            worker.join()
    return {"net": net, "one": counts[1], "two": counts[2], "gain": counts[2] / counts[1]}


def _trial(net: str, seconds: float, barrier: Any, queue: Any) -> None:
    torch.set_num_threads(1)
    images = BATCHES[net] * 128
    shared, _ = make_setup(net, images=images, batch=128, steps=7, device=torch.device("cpu"))
    running = ours(shared, "auto")
    next(running)
    barrier.wait()
    began, passes = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(running)
        passes += 1
    queue.put(passes * images / (time.perf_counter() - began))


def processor() -> str:
    """Name the processor as the system does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main() -> None:
    """Read the command line, measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, help="default: " + ", ".join(f"{n} {r}" for n, r in ROUNDS.items()))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=7, help="steps of the attack")
    parser.add_argument("--pair", action="store_true", help="measure two trials on two cores instead")
    parser.add_argument("--seconds", type=float, default=15, help="how long each side of --pair runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {processor()}, load {os.getloadavg()[0]:.1f}")
    results: list[dict[str, Any]] = []
    if args.pair:
        for net in args.nets:
            results.append(pair(net, args.seconds))
            print(
                "{net}: one trial {one:.1f} images/s, two {two:.1f}, gain {gain:.2f} (goal 1.65)".format(**results[-1])
            )
    else:
        ways = list(args.ways)
        if "torchattacks" in ways and not importlib.util.find_spec("torchattacks"):
            print("torchattacks is not installed (pip install --no-deps torchattacks): its column is left out")
            ways.remove("torchattacks")
        for net in args.nets:
            rounds = args.rounds or ROUNDS[net]
            results.append(compare(net, ways, rounds=rounds, batch=args.batch, steps=args.steps))
            show(results[-1])
    if args.json:
        about = {"torch": torch.__version__, "processor": processor(), "load": os.getloadavg()}
        args.json.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
