"""Measure the seconds that are not training.

- Seconds of a worker's time per trial outside the trial: of 200 trials that train nothing, and of `quickstart`.
  Everything is real: the sampler's suggestion, records on disk, Ray Tune and its workers, the stage store. What is
  counted as the trial's own work is the time in which the worker is in `Job.work`, by a clock in the worker.
- The share of the workers' time that is trials' own work, on `quickstart`, from when all workers work to the end.
- How many times as fast training on clean images is as plain PyTorch loops.
- Seconds from `robustsearch launch quickstart` to its first training step, and the processor time in them.

Each number stands beside its goal (`GOALS`) and whether it was met, with how many runs there were and the load. For
comparison, Ray Tune runs trials that do nothing with its defaults, without actor reuse.

    python benchmarks/overhead.py [--starts 3] [--trials 200] [--workers 2] [--rival 20] [--quickstart 60] [--pairs 41]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

GOALS = {"first step": 6.0, "outside": 0.08, "share": 0.9, "clean images": 1.0}
"""Most seconds to the first training step, and of a trial outside its own work; least share of the workers' time that
is trials' own work on `quickstart`, and times as fast as a plain loop."""

STUDY = """
name: overhead
data: digits
model: {kind: lenet300, hidden: [16]}
recipe: {kind: no_work, train: {precision: fp32}}
space:
  recipe.sparsity: {kind: float, low: 0.0, high: 0.98}
protocol: {eps: 0.1, examples: 10, attack: {kind: pgd, steps: 1}}
"""


@dataclass(frozen=True)
class Shares:
    """How the time of the workers of a search was spent, from when all of them worked to the end."""

    trials: int
    wall: float
    working: float
    """Seconds in which workers worked on trials, all workers together."""
    workers: int

    @property
    def outside(self) -> float:
        """Seconds of a worker's time per trial in which it worked on none."""
        return (self.workers * self.wall - self.working) / self.trials

    @property
    def share(self) -> float:
        """The share of the workers' time in which they worked on trials."""
        return self.working / (self.workers * self.wall)

    def judged(self, name: str, asked: int) -> str:
        """Tell which goals were met by the workers that were asked for; one that did all says nothing of two."""
        if self.workers < asked:
            return f"goals not judged: {self.workers} of {asked} workers took part"
        found = [goal(self.outside <= GOALS["outside"], f"{GOALS['outside']} s")]
        if name == "quickstart":
            found.append(goal(self.share >= GOALS["share"], f"{GOALS['share']:.0%}"))
        return ", ".join(found)


def goal(met: bool, what: str) -> str:
    """Tell whether a goal was met."""
    return f"goal {what} {'met' if met else 'missed'}"


def ours(study: dict[str, Any], trials: int, workers: int) -> Shares:
    """Run a study on workers with a clock."""
    import no_work

    from search.cluster.spec import Local
    from search.launch.api import launch

    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times"
        times.mkdir()
        os.environ[no_work.TIMES] = str(times)
        found = launch(
            {**study, "plugins": ["no_work"]}, cluster=Local(cpus=workers), trials=trials, storage=f"{folder}/runs"
        )
        print(found.ending, file=sys.stderr)
        outcomes = [outcome for _, outcome in found.records.trials() if outcome]
        assert len(outcomes) == trials, f"{len(outcomes)} of {trials} trials ended"
        assert all(outcome.state == "complete" for outcome in outcomes)
        calls = [read_times(file) for file in times.iterdir()]
    # Of few and short trials a worker that starts late may get none.
    assert 0 < len(calls) <= workers, f"{len(calls)} processes worked on trials"
    begin, end = max(spans[0][0] for spans in calls), max(spans[-1][1] for spans in calls)
    later = [(max(begin, began), ended, over) for spans in calls for began, ended, over in spans if ended > begin]
    working = sum(ended - began for began, ended, _ in later)
    return Shares(sum(over for *_, over in later), end - begin, working, len(calls))


def read_times(file: Path) -> list[tuple[float, float, bool]]:
    """Return begin and end of each call that a worker wrote down, and whether it ended a trial."""
    lines = (line.split() for line in file.read_text().splitlines())
    return [(float(began), float(ended), over == "1") for began, ended, over in lines]


def natural(pairs: int, epochs: int = 10) -> dict[str, list[float]]:
    """Return how many times as fast training on clean images is as plain loops, by loop, for each pair of runs.

    The network, the images and the optimiser of `quickstart`, half of the weights pruned; one thread, processor time.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ways = {"ours": _ours_natural(), "fused Adam": _plain(fused=True), "torch's default Adam": _plain(fused=False)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(pairs + 1):
        turn = number % len(ways)
        for way in [*ways, *ways][turn : turn + len(ways)]:
            began = time.process_time()
            for _ in range(epochs):
                next(ways[way])
            if number:
                seconds[way].append(time.process_time() - began)
    torch.set_num_threads(threads)
    mine = seconds.pop("ours")
    return {way: [other / own for other, own in zip(each, mine, strict=True)] for way, each in seconds.items()}


def _digits() -> tuple[Any, Any, dict[str, Any]]:
    """Return the images of `quickstart`, its network, and masks that keep half of the weights."""
    import torch

    from trainables import models
    from trainables.data import DATASETS, tensors
    from trainables.models import MODELS

    data = tensors.load(DATASETS["digits"](validation=300))
    spec = MODELS["lenet300"](hidden=(32, 32))
    net = models.build_for(data, spec, seed=0)
    draws = torch.Generator().manual_seed(0)
    masks = {name: torch.rand(p.shape, generator=draws) < 0.5 for name, p in net.named_parameters() if p.dim() > 1}
    return data, net, masks


def _ours_natural() -> Iterator[None]:
    from trainables.engine.train import train
    from trainables.losses.cross_entropy import Natural
    from trainables.method.phases import Train
    from trainables.method.training import Training
    from trainables.optimisers.adam import Adam
    from trainables.store.state import State

    data, net, masks = _digits()
    start = State.of(net)
    training = Training(optimiser=Adam(lr=5e-3), loss=Natural(), eps=0, precision="fp32")
    phase = Train(epochs=10**6, training=training)
    for _ in train(net, State(start.params, start.buffers, masks), phase, data, key="benchmark", device="cpu"):
        yield


def _plain(*, fused: bool) -> Iterator[None]:
    """Train as a careful engineer writes it without a DataLoader: images normalised once, batches by index."""
    import torch
    from torch.nn.functional import cross_entropy

    data, model, masks = _digits()
    x, y, net = model.normalise(data.train.pixels()), data.train.y, model.net
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3, **({"fused": True} if fused else {}))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10**6)
    params = dict(model.named_parameters())
    held = [(params[name], mask.float()) for name, mask in masks.items()]
    while True:
        net.train()
        loss_sum, hits = 0.0, 0
        for index in torch.randperm(len(y)).split(128):
            logits, labels = net(x[index]), y[index]
            loss = cross_entropy(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                for p, mask in held:
                    p.mul_(mask)
            loss_sum += loss.item() * len(labels)
            hits += int((logits.argmax(dim=1) == labels).sum())
        schedule.step()
        yield


def rival(trials: int, workers: int) -> float:
    """Return the seconds per trial of Ray Tune with a function that imports torch and returns."""
    from ray import tune

    from search.cluster.spec import Local

    def nothing(config: dict[str, Any]) -> dict[str, float]:
        import torch

        return {"value": float(torch.tensor(config["x"]))}

    with Local(cpus=workers).connect(), tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        tune.Tuner(
            nothing,
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=workers, reuse_actors=False),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        return (time.perf_counter() - began) / trials


def first_step(cpus: int) -> tuple[float, float]:
    """Return the seconds from the command to the first training step of `quickstart`, and the processor time in them.

    A worker stores the initial weights of a network as the first stage, right before it trains it; the time of that
    file counts. Processor time is that of all processes of the launch, which is stopped then.
    """
    import psutil

    with tempfile.TemporaryDirectory() as folder:
        cluster = Path(folder) / "cluster.yaml"
        cluster.write_text(f"kind: local\ncpus: {cpus}\n")
        command = [sys.executable, "-m", "search.console", "launch", "quickstart", "--cluster", str(cluster)]
        began = time.time()
        launch = subprocess.Popen([*command, "--storage", folder], stderr=subprocess.PIPE)
        used: dict[int, float] = {}
        try:
            while not (stages := list(Path(folder).glob("quickstart/stages/*/stage.json"))):
                assert launch.poll() is None, launch.communicate()[1].decode()
                for process in (psutil.Process(launch.pid), *psutil.Process(launch.pid).children(recursive=True)):
                    with suppress(psutil.Error):
                        used[process.pid] = sum(process.cpu_times()[:2])
                time.sleep(0.05)
            stored = min(stage.stat().st_mtime for stage in stages)
        finally:
            launch.terminate()
            launch.communicate()
    return stored - began, sum(used.values())


def main() -> None:
    """Run all, and print the numbers with the load of the machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=3, help="starts of quickstart; 0 leaves them out")
    parser.add_argument("--trials", type=int, default=200, help="trials that train nothing; 0 leaves them out")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rival", type=int, default=20, help="trials of the comparison; 0 leaves it out")
    parser.add_argument("--quickstart", type=int, default=60, help="trials of quickstart; 0 leaves it out")
    parser.add_argument("--pairs", type=int, default=41, help="pairs of runs on clean images; 0 leaves them out")
    arguments = parser.parse_args()
    starts = []
    for _ in range(arguments.starts):
        seconds, used = first_step(arguments.workers)
        starts.append(seconds)
        said = f"{seconds:.2f}, with {used:.1f} s of processor time"
        print(f"seconds from the command to the first training step: {said}, {load()}")
    if starts:
        said = goal(median(starts) <= GOALS["first step"], f"{GOALS['first step']:g} s")
        print(f"median of {len(starts)} starts: {median(starts):.2f} s; {said}")
    if arguments.pairs:
        for loop, ratios in natural(arguments.pairs).items():
            low, middle, high = (sorted(ratios)[int(share * (len(ratios) - 1))] for share in (0.1, 0.5, 0.9))
            said = f"{middle:.2f} times as fast as a plain loop with {loop} ({low:.2f} to {high:.2f}, 10 to 90 %)"
            met = goal(middle >= GOALS["clean images"], f"{GOALS['clean images']:g}")
            print(f"training on clean images: {said}, {len(ratios)} pairs, {load()}; {met}")
    for name, trials in (("trials that train nothing", arguments.trials), ("quickstart", arguments.quickstart)):
        if trials:
            found = ours(study(name), trials, arguments.workers)
            print(
                f"{name}: {found.outside:.3f} s a trial outside its own work of "
                f"{found.working / found.trials:.3f} s, so {found.share:.1%} of the workers' time is trials' own work; "
                f"{found.workers} workers, {found.trials} trials, {load()}; {found.judged(name, arguments.workers)}"
            )
    if arguments.rival:
        other = rival(arguments.rival, arguments.workers)
        print(f"Ray Tune, no actor reuse, torch imported: {other:.3f} s a trial ({arguments.rival} trials, {load()})")


def study(name: str) -> dict[str, Any]:
    """Return a study as plain data."""
    from search.files import yaml
    from search.study.file import builtin_text

    text = builtin_text("quickstart") if name == "quickstart" else STUDY
    return dict(yaml.parse(text, name).data)


def load() -> str:
    """Return the load of the machine, in words."""
    return f"load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
