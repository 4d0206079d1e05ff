"""Measure training on a GPU: speed, shares of it, memory and agreement with the CPU, in under eight minutes.

Needs torch, and of other packages numpy, pydantic and safetensors. Images are random unless `--data` names a folder
with Parquet files of CIFAR-10, which takes pyarrow and pillow too. Every section runs in a process of its own within
its budget, so one that fails, hangs or runs out of memory takes nothing from the others; what it measured until then is
kept. Writes gpu.json and gpu.md after each.

    python benchmarks/gpu.py --out results                      # one GPU
    python benchmarks/gpu.py --sections alone memory
    python benchmarks/gpu.py --device cpu --quick               # the same code, tiny, to see that it runs
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn

from trainables import models
from trainables.attacks.pgd import Pgd
from trainables.data import DATASETS, tensors
from trainables.data.tensors import Split, TrainingData
from trainables.engine.cuda_graphs import ENABLED, CudaGraphs
from trainables.engine.epoch import Epoch
from trainables.engine.train import train
from trainables.measure.evaluate import exact
from trainables.method.phases import Train
from trainables.method.training import Training
from trainables.models import MODELS, macs
from trainables.pruning import Pruning
from trainables.pruning.cut import prune
from trainables.store.state import State
from trainables.worker.job import release_memory

Row = dict[str, Any]
SHAPES = {"lenet300": (1, 28, 28), "lenet5": (1, 28, 28), "resnet20": (3, 32, 32), "resnet18": (3, 32, 32)}
SMALL = ("lenet300", "resnet20")
TOGETHER = 4
GOALS: dict[str, tuple[str, dict[str, str], str, float]] = {
    "share of the bf16 peak, resnet18": ("resnet18", {"precision": "bf16"}, "share of the peak", 0.30),
    "graph against eager, lenet300": ("alone", {"net": "lenet300", "way": "graph"}, "times eager", 3.0),
}
"""The section, the rows that count, the column of which the best should be at least so much."""


@dataclass(frozen=True)
class Case:
    """A training, of whole batches: `batches` of them in an epoch."""

    net: str
    batch: int = 128
    batches: int = 50
    steps: int = 10
    precision: str = "bf16"
    graph: bool = False
    device: str = "cuda"
    data: str | None = None

    def images(self) -> TrainingData:
        shape, n = SHAPES[self.net], self.batch * self.batches
        if self.data and shape[0] == 3:
            found = tensors.load(DATASETS["parquet"](root=self.data), self.device)
            repeats = -(-n // len(found.train))
            x, y = found.train.x.repeat(repeats, 1, 1, 1)[:n], found.train.y.repeat(repeats)[:n]
            return replace(found, train=Split(x, y, found.train.scale))
        draws = torch.Generator().manual_seed(0)
        x = torch.randint(256, (n, *shape), generator=draws).to(torch.uint8).to(self.device)
        split = Split(x, torch.randint(10, (n,), generator=draws).to(self.device), 255.0)
        return TrainingData(split, split, 10, shape, (0.5,) * shape[0], (0.29,) * shape[0], "", "")

    def network(self, data: TrainingData) -> nn.Module:
        fields = {"shape": data.shape, "classes": data.classes, "mean": data.mean, "std": data.std}
        return models.build(MODELS[self.net](), seed=0, **fields).to(self.device)

    def epochs(self, **options: Any) -> Iterator[Epoch]:
        """Train without end. A training with `ema`, augmentation and a warm-up uses all that a step consists of."""
        training = Training(
            batch=self.batch,
            attack=Pgd(steps=self.steps, step_size=2.5 / self.steps),
            precision=self.precision,  # type: ignore[arg-type]
            optimiser={"kind": "sgd", "lr": 0.01},  # type: ignore[arg-type]
            schedule={"kind": "cosine", "warmup": 1.0},  # type: ignore[arg-type]
            flip=SHAPES[self.net][0] == 3,
            crop=2,
            ema=0.99,
        )
        data = self.images()
        model, phase = self.network(data), Train(epochs=10**6, training=training)
        recorder = CudaGraphs(torch.device(self.device)) if self.graph and self.device != "cpu" else None
        begin = State.of(model)
        return train(model, begin, phase, data, key="gpu", device=self.device, recorder=recorder, **options)

    def flop(self) -> float:
        """Return the operations on an image in a step: of a forward pass, of a gradient by the input, and by all."""
        forward = 2 * macs.dense(macs.count(self.network(self.images()), SHAPES[self.net]))
        return forward * (2 * self.steps + 3)


def timed(case: Case, seconds: float, ready: Callable[[], None] = lambda: None) -> Row:
    """Train epochs for some seconds, after one (which warms up and records), and return their speed."""
    epochs = case.epochs()
    next(epochs)
    ready()
    speeds, began = [], time.perf_counter()
    while not speeds or time.perf_counter() - began < seconds:
        last = next(epochs)
        speeds.append(last.images / last.seconds)
    named = {"net": case.net, "batch": case.batch, "precision": case.precision, "way": way(case)}
    middle = statistics.median(speeds)
    found = {"images/s": middle, "lowest": min(speeds), "highest": max(speeds), "epochs": len(speeds)}
    return {**named, **found, "ms/step": 1e3 * case.batch / middle, "not replayed": last.not_replayed}


def way(case: Case) -> str:
    if not case.graph:
        return "eager"
    return "graph" if case.device != "cpu" else "graph (none on a CPU: eager)"


def peak(device: str, size: int, repeats: int = 20) -> float:
    """Measure the product of two square bf16 matrices, in TFLOP/s."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    for _ in range(3):
        a @ b
    wait()
    began = time.perf_counter()
    for _ in range(repeats):
        a @ b
    wait()
    return repeats * 2 * size**3 / (time.perf_counter() - began) / 1e12


def resnet18(base: Case, seconds: float, quick: bool) -> Iterator[Row]:
    """Measure ResNet-18 with PGD-10, and the peak before and after each speed."""
    size = 256 if quick else 8192
    for batch in (base.batch,) if quick else (128, 512):
        for precision in ("bf16", "fp32"):
            case = replace(base, net="resnet18", batch=batch, precision=precision, batches=1 if quick else 10)
            case = replace(case, steps=1) if quick else case
            before = peak(base.device, size)
            row = timed(case, seconds / 6)
            tflops = statistics.mean((before, peak(base.device, size)))
            reached = row["images/s"] * case.flop() / 1e12
            yield {**row, "TFLOP/s": reached, "peak TFLOP/s": tflops, "share of the peak": reached / tflops}


def alone(base: Case, seconds: float, quick: bool) -> Iterator[Row]:
    """Measure small networks without and with CUDA graphs."""
    for net in SMALL:
        speeds = []
        for graph in (False, True):
            row = timed(replace(base, net=net, graph=graph), seconds / 8)
            speeds.append(row["images/s"])
            yield {**row, "times eager": speeds[-1] / speeds[0]}


def together(base: Case, seconds: float, quick: bool) -> Iterator[Row]:
    """Measure four processes with a training each on the same GPU, and their images/s together."""
    context = multiprocessing.get_context("spawn")
    processes = 2 if quick else TOGETHER
    for net in SMALL[:1] if quick else SMALL:
        for graph in (False, True):
            case = replace(base, net=net, graph=graph)
            barrier, found = context.Barrier(processes), context.Queue()
            arguments = (case, seconds / 16, barrier, found)
            started = [context.Process(target=_one, args=arguments, daemon=True) for _ in range(processes)]
            for process in started:
                process.start()
            speeds = [found.get()["images/s"] for _ in started]
            for process in started:
                process.join()
            named = {"net": net, "way": way(case), "processes": processes}
            yield {**named, "images/s": sum(speeds), "slowest": min(speeds), "fastest": max(speeds)}


def _one(case: Case, seconds: float, barrier: Any, found: Any) -> None:
    torch.set_num_threads(1)
    found.put(timed(case, seconds, barrier.wait))


def agreement(base: Case, seconds: float, quick: bool) -> Iterator[Row]:
    """Compare weights after two epochs with those of the CPU, of a graph, of a resumed training and of another run."""
    for net in ("lenet300",) if quick else ("lenet300", "lenet5", "resnet20"):
        case = replace(base, net=net, batch=32, batches=2 if quick else 6, steps=3, precision="fp32")
        with exact(torch.device(base.device)):
            epochs = case.epochs()
            first = next(epochs).checkpoint()
            wanted = next(epochs).state()
        others = {
            "run again": lambda c=case: c.epochs(),
            "resumed": lambda c=case, f=first: c.epochs(resume=(1, f)),
            "graph": lambda c=case: replace(c, graph=True).epochs(),
            "cpu": lambda c=case: replace(c, device="cpu").epochs(),
        }
        for name, other in others.items():
            with exact(torch.device(base.device)):
                last = next(epoch for epoch in other() if epoch.epoch == 2)
                found = last.state()
            pairs = [(t.double().cpu(), found.params[name].double().cpu()) for name, t in wanted.params.items()]
            apart = max(float((a - b).abs().max()) for a, b in pairs)
            row = {"net": net, "with": name, "equal bits": all(torch.equal(a, b) for a, b in pairs), "apart": apart}
            yield {**row, "replayed": last.replayed, "not replayed": last.not_replayed}
        for scope in ("global", "layerwise"):
            yield {"net": net, "with": f"cpu, {scope} masks of equal scores", "equal bits": ties(base, net, scope)}


def ties(base: Case, net: str, scope: Any) -> bool:
    """Return whether a pruning whose scores are nearly all equal leaves the same weights on the device and the CPU."""
    case = replace(base, net=net, device="cpu", batches=1)
    state = State.of(case.network(case.images()))
    draws = torch.Generator().manual_seed(0)
    tied = {name: (torch.randint(4, p.shape, generator=draws) + 1) / 8 for name, p in state.params.items()}
    masks = []
    for device in ("cpu", base.device):
        of_device = State(tied, state.buffers, state.masks).to(torch.device(device))
        masks.append(prune(Pruning(scope=scope), 0.7, of_device, torch.Generator(device).manual_seed(0)).masks)
    return all(torch.equal(mask, masks[1][name].cpu()) for name, mask in masks[0].items())


def memory(base: Case, seconds: float, quick: bool) -> Iterator[Row]:
    """Train networks one after another, and tell what memory is left after each, as between two trials."""
    for number, net in enumerate(("lenet300", "lenet5" if quick else "resnet20") * 3):
        case = replace(base, net=net, batches=base.batches if quick else 6, graph=number >= 2)
        if base.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        for epoch in case.epochs():
            if epoch.epoch == 2:
                break
        del epoch
        release_memory()
        row = {"after": f"{net} ({way(case)})"}
        if base.device == "cpu":
            pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
            yield {**row, "resident MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6}
            continue
        left = {"allocated": torch.cuda.memory_allocated(), "reserved": torch.cuda.memory_reserved()}
        highest = {"highest MB": torch.cuda.max_memory_allocated() / 1e6}
        yield {**row, **{f"{name} MB": size / 1e6 for name, size in left.items()}, **highest}


SECTIONS: dict[str, tuple[Callable[[Case, float, bool], Iterator[Row]], int]] = {
    "resnet18": (resnet18, 100),
    "alone": (alone, 80),
    "together": (together, 130),
    "agreement": (agreement, 90),
    "memory": (memory, 50),
}
"""What measures each section, and its budget in seconds, start of the process included: 450 in all."""


def run(name: str, budget: float, arguments: list[str], out: Path) -> dict[str, Any]:
    """Run a section in a process of its own, and return its rows with what went wrong, if anything did."""
    began = time.perf_counter()
    rows, said = out / f"gpu-{name}.rows", out / f"gpu-{name}.log"
    command = [sys.executable, __file__, *arguments, "--section", name]
    with rows.open("w") as into, said.open("w") as log:
        process = subprocess.Popen(command, stdout=into, stderr=log, start_new_session=True)
        try:
            code: int | None = process.wait(budget)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # Whatever it started, too.
            if process.poll() is None or name == "together":
                _kill_group(process.pid)
            process.wait()
    found = [json.loads(line) for line in rows.read_text().splitlines() if line.endswith("}")]
    last = (said.read_text().strip().splitlines() or [""])[-1]
    wrong = None if code == 0 else f"stopped after {budget:.0f} s" if code is None else f"exit code {code}: {last}"
    rows.unlink()
    if code == 0:
        said.unlink()
    return {"seconds": time.perf_counter() - began, "wrong": wrong, "rows": found}


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def table(rows: list[Row]) -> str:
    """Write rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row if any(r.get(name) is not None for r in rows)))
    lines = [names, ["---"] * len(names), *([_shown(row.get(name)) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "" if value is None else str(value)


def page(report: dict[str, Any]) -> str:
    """Write the report as Markdown."""
    about = ", ".join(f"{name} {value}" for name, value in report["about"].items())
    goals = "; ".join(f"{name}: {judged(report['sections'], *goal)}" for name, goal in GOALS.items())
    parts = [f"# Training on {report['about']['device']}", f"{about}. Goals: {goals}."]
    for name, section in report["sections"].items():
        what = (SECTIONS[name][0].__doc__ or "").strip()
        parts.append(f"## {name}\n\n{what} {section['seconds']:.0f} s.")
        if section["wrong"]:
            parts.append(f"**Incomplete: {section['wrong']}**")
        if section["rows"]:
            parts.append(table(section["rows"]))
    return "\n\n".join(parts) + "\n"


def judged(sections: dict[str, Any], section: str, chosen: dict[str, str], column: str, goal: float) -> str:
    """Tell whether the best of the rows that count reaches a goal."""
    rows = sections.get(section, {"rows": []})["rows"]
    found = [row[column] for row in rows if all(row.get(name) == value for name, value in chosen.items())]
    if not found:
        return f"{goal:g}, not measured"
    return f"{goal:g}, {'met' if max(found) >= goal else 'missed'} with {max(found):.3g}"


def about(device: str, quick: bool) -> dict[str, Any]:
    """Tell what the numbers are from."""
    name = torch.cuda.get_device_name() if device != "cpu" else platform.processor() or "CPU"
    load = round(os.getloadavg()[0], 1)
    return {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "load": load, "quick": quick}


def main() -> None:
    """Read the command line, run the sections, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only shows that everything runs")
    parser.add_argument("--data", help="folder of CIFAR-10 as Parquet; default: random images")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --device cpu --quick runs the same code")
    os.environ.pop(ENABLED, None)  # Or what is compared to graphs would be graphs.
    if args.section:
        base = Case("lenet300", device=args.device, data=args.data)
        if args.quick:
            base = replace(base, batch=4, batches=5, steps=1)
        measure, budget = SECTIONS[args.section]
        for row in measure(base, 0.0 if args.quick else float(budget), args.quick):
            print(json.dumps(row), flush=True)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    arguments = ["--device", args.device, *(["--quick"] if args.quick else [])]
    arguments += ["--data", args.data] if args.data else []
    report: dict[str, Any] = {"about": about(args.device, args.quick), "sections": {}}
    for name in args.sections:
        report["sections"][name] = run(name, SECTIONS[name][1], arguments, args.out)
        (args.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        (args.out / "gpu.md").write_text(page(report))
        print(
            f"{name}: {len(report['sections'][name]['rows'])} rows, {report['sections'][name]['wrong'] or 'complete'}"
        )
    print(f"see {args.out / 'gpu.md'}")
    sys.exit(any(section["wrong"] for section in report["sections"].values()))


if __name__ == "__main__":
    main()
