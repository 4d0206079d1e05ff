"""Compare the cost and the verdicts of `aa` and PGD-50x10 with AutoAttack's package and a plain PGD-50x10.

All attack the same images of the validation split in one process, one batch after the other, on one thread. Ours attack
the network as measurements prepare it; the others the same module as a user would: in torch's default layout, every
image of a batch to the end. `autoattack-2` is the package with another seed: how far two of its runs agree. Each result
is appended to a file of JSON lines, and what is in it is not measured again.

    python benchmarks/evaluate.py measure STORAGE mnist:t0.2 resnet20:t0.0 --examples 200 --output evaluate.jsonl
    python benchmarks/evaluate.py table evaluate.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

import pyautoattack
import torch
from torch import Tensor, nn

from search.results.model_export import find
from search.results.study import Study
from trainables import models
from trainables.attacks import ATTACKS, hunt
from trainables.attacks.base import Norm
from trainables.attacks.counting import Counted
from trainables.core.rng import derive
from trainables.data import tensors
from trainables.measure.evaluate import frozen, pack_verdicts, unpack_verdicts
from trainables.recipes.trial import TrialSpec
from trainables.store.stages import Stages

CPU = torch.device("cpu")
PAIRS = (("aa", "autoattack"), ("pgd", "plain-pgd"))
OURS: dict[str, dict[str, Any]] = {"aa": {"kind": "aa"}, "pgd": {"kind": "pgd", "steps": 50, "restarts": 10}}


class Batch:
    """Images that the network classifies correctly, and a network as attacks get it, which counts."""

    def __init__(self, net: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float, seed: int) -> None:
        self.counted = Counted(net)
        self.x, self.y, self.norm, self.eps, self.seed = x, y, norm, eps, seed

    def ours(self, fields: dict[str, Any]) -> Tensor:
        attack = ATTACKS.parse({**fields, "norm": self.norm})
        x = self.x.contiguous(memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(self.seed)
        everything = torch.ones(len(x), dtype=torch.bool)
        return hunt(attack, self.counted, x, self.y, eps=self.eps, generator=generator, standing=everything)

    def package(self, seed: int) -> Tensor:
        norm = {"linf": "Linf", "l2": "L2"}[self.norm]
        attack = pyautoattack.AutoAttack(self.counted, norm=norm, eps=self.eps, seed=seed, version="standard")
        attack.verbose = False
        return attack.run_standard_evaluation(self.x, self.y, batch_size=len(self.x))[0]

    def plain_pgd(self, steps: int = 50, restarts: int = 10, share: float = 0.25) -> Tensor:
        """Sign or normalised gradient steps of a quarter of eps from uniform starts, as papers list them."""
        torch.manual_seed(self.seed)
        found = self.x.clone()
        for _ in range(restarts):
            z = self._project(self.x + self._start())
            for _ in range(steps):
                z = z.detach().requires_grad_()
                loss = nn.functional.cross_entropy(self.counted(z), self.y)
                (gradient,) = torch.autograd.grad(loss, z)
                z = self._project(z.detach() + share * self.eps * self._direction(gradient))
            with torch.no_grad():
                broken = self.counted(z).argmax(dim=1) != self.y
            found[broken] = z[broken]
        return found

    def _start(self) -> Tensor:
        if self.norm == "linf":
            return (2 * torch.rand_like(self.x) - 1) * self.eps
        return self._direction(torch.randn_like(self.x)) * self.eps * torch.rand(len(self.x), 1, 1, 1)

    def _direction(self, gradient: Tensor) -> Tensor:
        if self.norm == "linf":
            return gradient.sign()
        return gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, 1, 1, 1)

    def _project(self, z: Tensor) -> Tensor:
        delta = z - self.x
        if self.norm == "linf":
            delta = delta.clamp(-self.eps, self.eps)
        else:
            delta = delta * (self.eps / delta.flatten(1).norm(dim=1).clamp_min(1e-30)).clamp_max(1).view(-1, 1, 1, 1)
        return (self.x + delta).clamp(0, 1)


METHODS: dict[str, Callable[[Batch], Tensor]] = {
    "aa": lambda batch: batch.ours(OURS["aa"]),
    "autoattack": lambda batch: batch.package(0),
    "pgd": lambda batch: batch.ours(OURS["pgd"]),
    "plain-pgd": Batch.plain_pgd,
    "autoattack-2": lambda batch: batch.package(1),
}


class Network:
    """A stored network with the images of its validation split."""

    def __init__(self, storage: str, name: str) -> None:
        study_name, point = name.split(":")
        study = Study.open(f"{storage}/{study_name}")
        trial, _, found = find(study, point)
        spec = TrialSpec.model_validate(trial.spec)
        data = tensors.load(spec.data)
        shape = {"shape": data.shape, "classes": data.classes, "mean": data.mean, "std": data.std}
        model = models.build(spec.model, **shape, seed=spec.seed)
        state = Stages(study.records.storage).read(found.stage)
        self.prepared = frozen(model, state, CPU)
        self.plain = state.into(model).eval().requires_grad_(False)
        self.split = data.validation
        self.norm: Norm = spec.protocol.attack.norm
        self.eps = float(spec.protocol.eps)
        self.sparsity = found.sparsity

    def correct(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return self.plain(x).argmax(dim=1) == y

    def measured(self, method: str, part: slice, norm: Norm, eps: float) -> dict[str, Any]:
        """Attack the images of a part that are classified correctly; the verdicts are of all, by the plain module."""
        x, y = self.split.pixels(part).contiguous(), self.split.y[part]
        robust = self.correct(x, y)
        clean = robust.clone()
        net = self.prepared if method in OURS else self.plain
        batch = Batch(net, x[clean], y[clean], norm, eps, derive("evaluate", part.start))
        started, on_cpu = time.monotonic(), time.process_time()
        found = METHODS[method](batch).contiguous()
        seconds, on_cpu = time.monotonic() - started, time.process_time() - on_cpu
        delta = (found - x[clean]).flatten(1)
        length = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
        assert float(length.max()) <= eps * (1 + 1e-5), float(length.max())
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        robust[clean] = self.correct(found, y[clean])
        return {
            "clean": pack_verdicts(clean.numpy()),
            "robust": pack_verdicts(robust.numpy()),
            "seconds": seconds,
            "cpu_seconds": on_cpu,
            "forward": batch.counted.forward,
            "backward": batch.counted.backward,
        }


def measure(given: argparse.Namespace) -> None:
    """Append what is missing to the file, batch by batch over all networks, and say it."""
    torch.set_num_threads(1)
    keys = ("network", "norm", "eps", "first", "examples", "method")
    done = {tuple(row[key] for key in keys) for row in read(given.output)}
    networks = {name: Network(given.storage, name) for name in given.networks}
    for first in range(0, given.examples, given.batch):
        for name, network in networks.items():
            norm, eps = given.norm or network.norm, given.eps or network.eps
            size = min(given.batch, given.examples - first)
            for method in given.methods:
                key = (name, norm, eps, first, size, method)
                if key in done:
                    continue
                row = dict(zip(keys, key, strict=True)) | {"sparsity": network.sparsity}
                row |= network.measured(method, slice(first, first + size), norm, eps)
                with given.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                robust = unpack_verdicts(row["robust"], size).sum()
                print(f"{name} {first}+{size} {method}: {robust} stand, {row['cpu_seconds']:.0f} s", flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(path: Path) -> None:
    """Print, per network and pair, robust accuracies, verdicts that differ, time and passes, over batches of both."""
    batches: dict[tuple[str, str, float], dict[tuple[int, int], dict[str, dict[str, Any]]]]
    batches = defaultdict(lambda: defaultdict(dict))
    for row in read(path):
        batches[row["network"], row["norm"], row["eps"]][row["first"], row["examples"]][row["method"]] = row
    print(
        "| network | sparsity | attacks | n | clean % | ours: robust % | original: robust % | only ours breaks | "
        "only the original breaks | time (CPU) | ours: s | passes forward, backward: ours | original |"
    )
    print("| --- " * 13 + "|")
    for (name, norm, eps), parts in batches.items():
        for ours, theirs in (*PAIRS, ("autoattack-2", "autoattack")):
            both = [
                (size, rows[ours], rows[theirs]) for (_, size), rows in parts.items() if {ours, theirs} <= rows.keys()
            ]
            if both:
                print(f"| {name} | {_line(both, f'{ours}, {theirs}, {norm} {eps:.4g}')} |")


def _line(both: list[tuple[int, dict[str, Any], dict[str, Any]]], title: str) -> str:
    n = sum(size for size, _, _ in both)
    verdicts = [[unpack_verdicts(row["robust"], size) for row in rows] for size, *rows in both]
    clean = sum(int(unpack_verdicts(row["clean"], size).sum()) for size, row, _ in both)
    ours, theirs = (sum(int(pair[i].sum()) for pair in verdicts) for i in (0, 1))
    only = [sum(int((pair[1 - i] & ~pair[i]).sum()) for pair in verdicts) for i in (0, 1)]
    cost = {
        key: [sum(row[i + 1][key] for row in both) for i in (0, 1)] for key in ("cpu_seconds", "forward", "backward")
    }
    seconds = cost["cpu_seconds"]
    passes = [f"{cost['forward'][i] / clean:,.0f}, {cost['backward'][i] / clean:,.0f}" for i in (0, 1)]
    cells = [f"{both[0][1]['sparsity']:.3f}", title, n, f"{100 * clean / n:.1f}", f"{100 * ours / n:.1f}"]
    cells += [f"{100 * theirs / n:.1f}", *only, f"{seconds[0] / seconds[1]:.2f}", f"{seconds[0]:.0f}", *passes]
    return " | ".join(map(str, cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("storage")
    one.add_argument("networks", nargs="+", help="STUDY:POINT")
    one.add_argument("--examples", type=int, default=200)
    one.add_argument("--batch", type=int, default=100)
    one.add_argument("--methods", nargs="+", choices=METHODS, default=[name for pair in PAIRS for name in pair])
    one.add_argument("--norm", choices=("linf", "l2"), help="instead of the protocol's, with --eps")
    one.add_argument("--eps", type=float)
    one.add_argument("--output", type=Path, default=Path("evaluate.jsonl"))
    two = commands.add_parser("table")
    two.add_argument("file", type=Path)
    given = parser.parse_args()
    if given.command == "table":
        table(given.file)
    else:
        measure(given)


if __name__ == "__main__":
    main()
