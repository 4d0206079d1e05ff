"""Compare training and measuring a network with whole filters pruned at full size and without those filters.

Both sides run in one process on one thread and take turns, so that changes of the machine's speed affect both alike.
Prints CPU seconds an epoch of adversarial training and of a measurement under PGD, as medians over rounds, and the
ratio as the median over pairs with the spread (lowest to highest). A measurement includes the shrinking itself.

`--sparse` instead compares trainings of LeNet-300-100 with and without sparse matrices in the attack, and the products
of its layers, as a training step with unstructured masks would use them, to the dense products.

    python benchmarks/shrunk.py                          # about ten minutes on one quiet core
    python benchmarks/shrunk.py --nets vgg16 --gone 0.5 --rounds 3 --json shrunk.json
    python benchmarks/shrunk.py --sparse
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables import models
from trainables.attacks.pgd import Pgd
from trainables.data.tensors import Split, TrainingData
from trainables.engine.train import train
from trainables.measure.evaluate import measure
from trainables.method.phases import Train
from trainables.method.protocol import Protocol
from trainables.method.schedules import Constant
from trainables.method.training import Training
from trainables.models import MODELS
from trainables.models.graph.smaller import Smaller
from trainables.optimisers.sgd import Sgd
from trainables.pruning import Pruning
from trainables.pruning.cut import prune
from trainables.pruning.network import Network
from trainables.store.state import State

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
NETS = {"lenet300": MNIST, "lenet5": MNIST, "resnet20": CIFAR, "resnet18": CIFAR, "vgg16": CIFAR}
BATCHES = {"lenet300": 40, "lenet5": 8, "resnet20": 2, "resnet18": 1, "vgg16": 1}
SIZES = {"lenet300": 128, "lenet5": 128, "resnet20": 64, "resnet18": 32, "vgg16": 32}
LAYERS = ((300, 784), (100, 300), (10, 100))
"""Outputs and inputs of LeNet-300-100."""


def images(number: int, shape: tuple[int, int, int]) -> TrainingData:
    """Return random images, which cost what real ones cost."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randint(256, (number, *shape), generator=draws).to(torch.uint8)
    split = Split(x, torch.randint(10, (number,), generator=draws), 255.0)
    return TrainingData(split, split, 10, shape, (0.5,) * shape[0], (0.29,) * shape[0], "", "")


def gone(state: State) -> float:
    """Return the share of the filters that are pruned, of all layers but the last."""
    *names, _ = state.prunable()
    alive = [state.masks[name].flatten(1).any(dim=1) for name in names]
    return 1 - sum(int(live.sum()) for live in alive) / sum(map(len, alive))


def pruned(net: str, data: TrainingData, share: float) -> State:
    """Return a network of which about this share of the filters is pruned, the same share of each layer."""
    model = models.build(MODELS[net](), shape=data.shape, classes=10, mean=data.mean, std=data.std, seed=0)
    pruning = Pruning(scope="layerwise", structure="filter")

    def at(sparsity: float) -> State:
        draws = torch.Generator().manual_seed(0)
        return prune(pruning, sparsity, State.of(model), draws, lambda s, g: Network(model, s, data, g))

    low, high = 0.0, 0.999
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if gone(at(middle)) < share else (low, middle)
    return at(high)


def compare(net: str, share: float, *, rounds: int, steps: int) -> dict[str, Any]:
    """Run both sizes in turn, `rounds` times after a round of warming up."""
    data = images(BATCHES[net] * SIZES[net], NETS[net])
    state = pruned(net, data, share)
    training = Training(
        batch=SIZES[net],
        optimiser=Sgd(lr=0.01),
        schedule=Constant(),
        attack=Pgd(steps=steps),
        eps=8 / 255,
        precision="fp32",
    )
    protocol = Protocol(attack=Pgd(steps=2 * steps), eps=8 / 255)

    def model() -> torch.nn.Module:
        return models.build(MODELS[net](), shape=data.shape, classes=10, mean=data.mean, std=data.std, seed=0)

    running = {
        shrunk: train(
            model(),
            state,
            Train(epochs=10**6, training=training, shrunk=shrunk),
            data,
            key="benchmark",
            device=torch.device("cpu"),
        )
        for shrunk in (False, True)
    }
    seconds: dict[str, dict[bool, list[float]]] = {"train": {False: [], True: []}, "measure": {False: [], True: []}}
    began = time.process_time()
    smaller = Smaller(model(), state, data.shape)
    setup = time.process_time() - began
    works: dict[str, Callable[[bool], object]] = {
        "train": lambda shrunk: next(running[shrunk]),
        "measure": lambda shrunk: measure(
            model(), state, protocol, data.validation, device="cpu", checked=False, shrunk=shrunk
        ),
    }
    for number in range(rounds + 1):
        for name, work in works.items():
            for shrunk in (False, True) if number % 2 else (True, False):
                began = time.process_time()
                work(shrunk)
                if number:
                    seconds[name][shrunk].append(time.process_time() - began)
    return {
        "net": net,
        "gone": gone(state),
        "sparsity": state.mask_sparsity(),
        "macs": smaller.share,
        "setup": setup,
        "images": len(data.train),
        "batch": SIZES[net],
        "steps": steps,
        "load": os.getloadavg()[0],
        "seconds": {name: {"full": found[False], "shrunk": found[True]} for name, found in seconds.items()},
    }


def show(found: dict[str, Any]) -> None:
    """Print one network's rows."""
    print(
        f"\n{found['net']}: {100 * found['gone']:.1f} % of the filters gone, sparsity {found['sparsity']:.4f}, "
        f"{100 * found['macs']:.1f} % of the multiply-accumulates left; batch {found['batch']}, PGD-{found['steps']}; "
        f"shrinking itself {found['setup']:.2f} s; load {found['load']:.1f}"
    )
    for name, sides in found["seconds"].items():
        ratios = [full / shrunk for full, shrunk in zip(sides["full"], sides["shrunk"], strict=True)]
        full, shrunk = (statistics.median(sides[side]) for side in ("full", "shrunk"))
        print(
            f"  {name:<8} full {full:8.3f} s  shrunk {shrunk:8.3f} s  ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)})",
            flush=True,
        )


def sparse(batch: int, sparsity: float, rounds: int) -> dict[str, Any]:
    """Time the three products of a linear layer and its gradients, dense and with the weight in CSR format."""
    draws = torch.Generator().manual_seed(0)
    rows = []
    for outputs, inputs in LAYERS:
        weight = torch.randn(outputs, inputs, generator=draws)
        weight *= torch.rand(outputs, inputs, generator=draws) >= sparsity
        x, dy = torch.randn(batch, inputs, generator=draws), torch.randn(batch, outputs, generator=draws)
        csr, back = weight.to_sparse_csr(), weight.T.contiguous().to_sparse_csr()
        ones = torch.sparse_csr_tensor(csr.crow_indices(), csr.col_indices(), torch.zeros_like(csr.values()), csr.shape)
        xt, dyt = x.T.contiguous(), dy.T.contiguous()
        # The best case of the sparse side: activations transposed already, as its products want them.
        ways: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
            "forward": (lambda w=weight, x=x: F.linear(x, w), lambda w=csr, x=xt: w @ x),
            "input": (lambda w=weight, d=dy: d @ w, lambda w=back, d=dyt: w @ d),
            "weight": (
                lambda x=x, d=dy: d.T @ x,
                lambda o=ones, x=x, d=dyt: torch.sparse.sampled_addmm(o, d, x, beta=0.0),
            ),
        }
        for product, (dense, other) in ways.items():
            pairs = [(_timed(dense), _timed(other)) for _ in range(rounds + 1)][1:]
            both = [statistics.median(side) for side in zip(*pairs, strict=True)]
            rows.append({"layer": [outputs, inputs], "product": product, "dense": both[0], "csr": both[1]})
    return {"batch": batch, "sparsity": sparsity, "load": os.getloadavg()[0], "rows": rows}


def _timed(work: Callable[[], Tensor], times: int = 50) -> float:
    """Return the CPU microseconds of one call."""
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1e6


def show_sparse(found: dict[str, Any]) -> None:
    """Print the products of all layers, and what a step of PGD and of training would take with them."""
    print(f"\nbatch {found['batch']}, {100 * found['sparsity']:g} % zeros; load {found['load']:.1f}; microseconds")
    for row in found["rows"]:
        ratio = row["dense"] / row["csr"]
        outputs, inputs = row["layer"]
        name = f"{outputs:>3} x {inputs:<3} {row['product']:<8}"
        print(f"  {name} dense {row['dense']:8.1f} CSR {row['csr']:8.1f} {ratio:6.2f}")
    for name, products in (("attack", ("forward", "input")), ("training", ("forward", "input", "weight"))):
        chosen = [row for row in found["rows"] if row["product"] in products]
        dense, csr = (sum(row[side] for row in chosen) for side in ("dense", "csr"))
        best = sum(min(row["dense"], row["csr"]) for row in chosen)
        print(
            f"  all of a step of the {name:<8} dense {dense:8.1f} CSR {csr:8.1f} the faster of both {dense / best:.2f}"
        )


def epochs(shape: tuple[int, int, int], sparsity: float, *, rounds: int, batch: int = 128) -> dict[str, Any]:
    """Time epochs of adversarial training of LeNet-300-100 with and without sparse matrices in the attack, in turn."""
    data = images(20 * batch, shape)

    def model() -> torch.nn.Module:
        return models.build(MODELS["lenet300"](), shape=shape, classes=10, mean=data.mean, std=data.std, seed=0)

    state = prune(Pruning(), sparsity, State.of(model()), torch.Generator().manual_seed(0))
    training = Training(
        batch=batch, optimiser=Sgd(lr=0.01), schedule=Constant(), attack=Pgd(steps=7), eps=0.1, precision="fp32"
    )
    phase = Train(epochs=10**6, training=training)
    ways = {"dense": phase, "sparse": phase.model_copy(update={"sparse": True})}
    running = {
        way: train(model(), state, own, data, key="benchmark", device=torch.device("cpu")) for way, own in ways.items()
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways if number % 2 else reversed(ways):
            began = time.process_time()
            next(running[way])
            if number:
                seconds[way].append(time.process_time() - began)
    return {"shape": shape, "sparsity": sparsity, "load": os.getloadavg()[0], "seconds": seconds}


def show_epochs(found: dict[str, Any]) -> None:
    """Print one line."""
    dense, other = found["seconds"]["dense"], found["seconds"]["sparse"]
    ratios = [a / b for a, b in zip(dense, other, strict=True)]
    print(
        f"LeNet-300-100, {found['shape'][1]} pixels wide, {100 * found['sparsity']:g} % pruned: an epoch takes "
        f"{statistics.median(dense):.3f} s, with sparse matrices in the attack {statistics.median(other):.3f} s, ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)}); load "
        f"{found['load']:.1f}",
        flush=True,
    )


def semi_structured() -> str:
    """Say what torch does with a 2:4 matrix on the CPU."""
    weight = torch.tensor([0.0, 0.0, 1.0, 1.0]).tile((64, 32))
    try:
        torch.sparse.to_sparse_semi_structured(weight)
    except Exception as error:
        return f"2:4 on the CPU: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return "2:4 on the CPU: converted"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=["resnet18", "vgg16", "resnet20", "lenet5"])
    parser.add_argument("--gone", type=float, default=0.75, help="share of the filters that is pruned")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=10, help="steps of PGD in training; a measurement has twice as many"
    )
    parser.add_argument("--sparse", action="store_true", help="compare products with sparse matrices instead")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    if args.sparse:
        print(semi_structured())
        for shape in (MNIST, (1, 8, 8)):
            for sparsity in (0.9, 0.95, 0.98, 0.99):
                found.append(epochs(shape, sparsity, rounds=args.rounds))
                show_epochs(found[-1])
        for batch in (64, 128, 512):
            for sparsity in (0.9, 0.95, 0.98, 0.99):
                found.append(sparse(batch, sparsity, args.rounds))
                show_sparse(found[-1])
    else:
        for net in args.nets:
            found.append(compare(net, args.gone, rounds=args.rounds, steps=args.steps))
            show(found[-1])
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
