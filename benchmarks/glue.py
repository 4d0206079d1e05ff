"""Measure a whole search against the glue that a good engineer builds in a day, from process start to the last result.

`robustsearch launch` against `glue_tune.py` (Ray Tune, OptunaSearch with multivariate TPE, torch), both as child
processes with the same data, network, space, epochs, trials and workers, in turn, ours first for even seeds. Every
network that either side measures counts, at the moment its measurement ended. Ours are measured by the study's
protocol; the glue measures by PGD-20, which is faster, and its saved networks are measured by the protocol afterwards,
outside of its time. Prints the hypervolume (robust accuracy x sparsity above 0) over wall time, the ratios of the times
to shares of the lower final with the goals, and where they come from: epochs, seconds an epoch, and the share of the
workers' time that is training and measuring. `--agreement` fails where both sides' networks differ by over a point.

    python benchmarks/glue.py quickstart [--seeds 5]             # a line for each run is appended to --results
    python benchmarks/glue.py quickstart --sides ours-tpe ours-pgd      # parts of ours switched off, same seeds
    python benchmarks/glue.py quickstart --agreement 20          # are networks of both sides equally robust?
    python benchmarks/glue.py --show

A run whose line is there is not repeated. `RAY_worker_niceness=0` gives the workers of both sides normal priority.
MNIST is read from $ROBUSTSEARCH_DATA, Fashion-MNIST also from Debian's package `dataset-fashion-mnist`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

import glue_trial
import numpy as np
import torch
from glue_report import DIFFER, SEEDS, Line, compared, report
from optuna.distributions import distribution_to_json
from torch import Tensor, nn

from search.samplers.optuna.study import distribution
from search.store.records import Records
from search.study import file as study_file
from search.study.spec import StudySpec
from trainables import models
from trainables.data import tensors
from trainables.data.tensors import TrainingData
from trainables.measure import evaluate
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Storage
from trainables.worker.run import Run

HERE = Path(__file__).parent
STUDIES: dict[str, tuple[str, ...]] = {
    "quickstart": (),
    # Sizes that a search of two cores ends in minutes; bounds on accuracy, which the glue does not know, are left out.
    "mnist-lenet300": (
        *("data.limit=2000", "data.validation=1000", "protocol.examples=1000", "constraints={}"),
        *("recipe.round_epochs=5", "budget.trials=30"),
    ),
    "fashion-lenet5": (
        *("data.limit=640", "data.validation=1000", "protocol.examples=500", "recipe.epochs=8"),
        *("recipe.round_epochs=2", "budget.trials=16"),
    ),
}
SIDES: dict[str, tuple[str, ...]] = {
    "ours": (),
    "glue": (),
    "ours-tpe": ("sampler=tpe",),
    "ours-startup-10": ("sampler={kind: ehvi, n_startup_trials: 10}",),
    # Measured as the glue measures; by the study's protocol afterwards.
    "ours-pgd": ("protocol.attack={kind: pgd, steps: 20}",),
    # In the precision in which the glue trains, also where the other is faster.
    "ours-fp32": ("recipe.train.precision=fp32",),
    # A weight decay without effect that no two trials have in common (`unshared.py`): they share no training.
    "ours-unshared": (
        *("plugins=[unshared]", "sampler=unshared"),
        "space.recipe.train.optimiser.weight_decay={kind: float, low: 0, high: 1e-15}",
    ),
}
GLUE_STEPS = 20


def study(name: str, seed: int, side: str = "ours") -> tuple[StudySpec, list[str]]:
    """Return a study of this seed, and the arguments of `launch` that make it of the built-in one."""
    changes = [*STUDIES[name], *SIDES[side], f"seed={seed}"]
    spec = study_file.load(name, overrides=changes)
    return spec, [argument for change in changes for argument in ("--set", change)]


class Bench:
    """What networks of a study are measured with."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.data: TrainingData = tensors.load(spec.data)
        shape, classes, mean, std = self.data.shape, self.data.classes, self.data.mean, self.data.std
        self.model: nn.Module = models.build(spec.model, shape=shape, classes=classes, mean=mean, std=std, seed=0)

    def robust(self, params: dict[str, Tensor]) -> float:
        """Return the robust accuracy of the glue's parameters by the study's protocol."""
        ours = State.of(self.model)
        own = dict(zip(ours.params, params.values(), strict=True))
        assert all(own[name].shape == value.shape for name, value in ours.params.items())
        state = State(own, ours.buffers, {name: own[name] != 0 for name in ours.masks})
        found = evaluate.measure(
            self.model, state, self.spec.protocol, self.data.validation, device="cpu", checked=False
        )
        return float(found.robust_correct.mean())

    def glue_data(self) -> glue_trial.Data:
        """Return the data as the glue reads them."""
        train, held = self.data.train, self.data.validation
        return glue_trial.Data(train.pixels(), train.y, held.pixels(), held.y, self.data.mean, self.data.std)

    def glue_setting(self) -> glue_trial.Setting:
        """Return the study as the glue's numbers."""
        recipe: Any = self.spec.recipe
        training = recipe.train
        loss: Any = training.loss
        return glue_trial.Setting(
            model=self.spec.model.kind,
            hidden=tuple(getattr(self.spec.model, "hidden", ())),
            epochs=recipe.epochs,
            round_epochs=recipe.round_epochs,
            rate=recipe.rate,
            batch=training.batch,
            lr=training.optimiser.lr,
            warmup=training.schedule.warmup,
            clean=loss.weight if loss.kind == "mix" else 0.0,
            attack_steps=training.attack.steps,
            attack_share=training.attack.share,
            flip=training.flip,
            test_eps=float(self.spec.protocol.eps),
            test_steps=GLUE_STEPS,
            examples=self.spec.protocol.examples or len(self.data.validation),
        )


def timed(command: list[str], folder: Path, paths: list[Path]) -> tuple[float, float, list[float]]:
    """Run a program; return when it started, how many seconds it took, and the load while it ran."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    loads = []
    with (folder / "output.txt").open("w") as output:
        began, clock = time.time(), time.perf_counter()
        child = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder)
        while child.poll() is None:
            loads.append(os.getloadavg()[0])
            time.sleep(0.2)
        seconds = time.perf_counter() - clock
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'output.txt').read_text()[-3000:]}")
    return began, seconds, loads


def glue(name: str, seed: int, workers: int, folder: Path) -> Line:
    """Run the glue, then measure its networks by the study's protocol."""
    spec, _ = study(name, seed)
    bench = Bench(spec)
    data = bench.glue_data()
    np.savez(folder / "data.npz", **{key: getattr(data, key).numpy() for key in ("x", "y", "held_x", "held_y")})
    about = {
        "setting": vars(bench.glue_setting()),
        "space": {path: distribution_to_json(distribution(parameter)) for path, parameter in spec.space.items()},
        "seed": seed,
        "trials": spec.budget.trials,
        "workers": workers,
        "mean": data.mean,
        "std": data.std,
    }
    (folder / "setting.json").write_text(json.dumps(about))
    began, seconds, loads = timed([sys.executable, str(HERE / "glue_tune.py"), str(folder)], folder, [HERE])
    lines = [json.loads(text) for file in folder.glob("points-*.jsonl") for text in file.read_text().splitlines()]
    points, own, done = [], 0.0, {}
    for line in sorted(lines, key=lambda line: line["time"]):
        robust = bench.robust(torch.load(folder / f"{line['trial']}-{line['measure']}.pt", weights_only=True))
        since, epochs = done.get(line["trial"], (line["began"], 0))
        points.append([line["time"] - began, robust, line["sparsity"], line["epochs"] - epochs])
        own += line["time"] - since
        done[line["trial"]] = (line["time"], line["epochs"])
    first = min(line["began"] for line in lines) - began
    return summary(seconds, loads, first, points, own, len(done))


def ours(name: str, seed: int, workers: int, folder: Path, side: str) -> Line:
    """Run `robustsearch launch`."""
    _, changes = study(name, seed, side)
    (folder / "cluster.yaml").write_text(f"kind: local\ncpus: {workers}\n")
    command = [sys.executable, "-m", "search.console", "launch", name, *changes]
    command += ["--cluster", "cluster.yaml", "--storage", str(folder / "runs")]
    began, seconds, loads = timed(command, folder, [HERE.parent, HERE])  # `unshared` is a plug-in.
    records = Records.open(Storage(str(folder / "runs")).child(name))
    outcomes = [outcome for _, outcome in records.trials() if outcome is not None]
    written = {file.parent.name: file.stat().st_mtime for file in (folder / "runs").rglob("point.json")}
    changed = study(name, seed, side)[0].protocol != (spec := study(name, seed)[0]).protocol
    bench = Bench(spec) if changed else None
    stages = Stages(records.storage, records.storage.parent())
    points, own, first, known = [], 0.0, math.inf, set()
    for outcome in sorted(outcomes, key=lambda outcome: outcome.number):
        trained = 0
        for point in outcome.points:
            new, trained = point.epochs_trained - trained, point.epochs_trained
            if point.key in known:
                continue
            known.add(point.key)
            at = written[point.key] - began
            robust = point.robust_accuracy
            if bench is not None:
                state = stages.load(point.stage)
                assert state is not None
                robust = bench.robust(state.params)
            points.append([at, robust, point.sparsity, new])
            own, first = own + point.seconds, min(first, at - point.seconds)
    return summary(seconds, loads, first, sorted(points), own, len(outcomes))


def summary(
    seconds: float, loads: list[float], first: float, points: list[list[float]], own: float, trials: int
) -> Line:
    """Return a run as a line of the results."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True
        ).stdout.strip(),
        "seconds": round(seconds, 2),
        "load": [round(sum(loads) / len(loads), 1), max(loads)],
        "first": round(first, 2),
        "own": round(own, 2),
        "trials": trials,
        "points": [[round(at, 2), robust, round(sparsity, 6), epochs] for at, robust, sparsity, epochs in points],
    }


def agreement(name: str, seeds: int, file: Path) -> list[str]:
    """Train one configuration to the last level on both sides, and measure both by the study's protocol."""
    spec, _ = study(name, 0)
    bench = Bench(spec)
    data, setting = bench.glue_data(), bench.glue_setting()
    params = {path: parameter.spaced(2)[0] for path, parameter in spec.space.items()}
    params["recipe.sparsity"] = max(spec.space["recipe.sparsity"].spaced(2))
    params["recipe.train.eps"] = float(spec.protocol.eps)
    done = {line["seed"] for line in stored(file)}
    for seed in sorted(set(range(seeds)) - done):
        trial = glue_trial.Trial(setting, data, params, seed)
        theirs = [[bench.robust(found["state"]), found["sparsity"]] for found in trial.run()]
        with tempfile.TemporaryDirectory() as folder:
            stages = Stages(Storage(folder))
            run = Run(spec.trial(params, seed=seed), bench.data, stages, 0, "alone", torch.device("cpu"))
            points = [progress.point for progress in run.progress() if progress.point is not None]
        mine = [[point.robust_accuracy, point.sparsity] for point in points]
        append(file, {"seed": seed, "glue": theirs, "ours": mine})
    return [f"{name}: robust accuracy of ours and the glue, and points between them", *compared(stored(file))]


def stored(file: Path) -> list[Line]:
    """Return the lines of a file of results."""
    return [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []


def append(file: Path, line: Line) -> None:
    """Add a line to a file of results."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as out:
        out.write(json.dumps(line) + "\n")


def main() -> None:
    """Run what is missing and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", default=list(STUDIES), help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--sides", nargs="*", default=["ours", "glue"], choices=list(SIDES))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("build/glue"), help="folder of the lines of all runs")
    parser.add_argument("--agreement", type=int, default=0, metavar="SEEDS", help="compare networks, not searches")
    parser.add_argument("--show", action="store_true", help="run nothing, print what is there")
    arguments = parser.parse_args()
    differ = False
    for name in arguments.studies:
        file = arguments.results / f"{name}.jsonl"
        if arguments.agreement:
            found = agreement(name, arguments.agreement, file.with_suffix(".agreement.jsonl"))
            print("\n".join(found))
            differ |= any(text.endswith(DIFFER) for text in found)
            continue
        for seed in range(0 if arguments.show else arguments.seeds):
            done = {line["side"] for line in stored(file) if line["seed"] == seed}
            for side in arguments.sides if seed % 2 == 0 else reversed(arguments.sides):
                if side in done:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    if side == "glue":
                        line = glue(name, seed, arguments.workers, Path(folder))
                    else:
                        line = ours(name, seed, arguments.workers, Path(folder), side)
                append(file, {"study": name, "seed": seed, "side": side, **line})
                print(f"{name} {seed} {side}: {line['seconds']} s", file=sys.stderr, flush=True)
        print(name)
        print("\n".join(report(stored(file), arguments.workers)))
    sys.exit(differ)


if __name__ == "__main__":
    main()
