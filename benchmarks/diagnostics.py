"""Which networks the flags of a measurement tell apart, and what they cost.

Planted networks that mask their gradients (`benchmarks.planted`) stand around a trained one; ordinary ones are trained
here on several data sets (`benchmarks.ordinary`) or taken from studies. Each result is appended to a file of JSON
lines, and what is in it is not measured again.

    python -m benchmarks.diagnostics measure --storage runs --studies quickstart --output diagnostics.jsonl
    python -m benchmarks.diagnostics table diagnostics.jsonl
    python -m benchmarks.diagnostics costs

A network of at most twice the accuracy of chance counts as collapsed, not as ordinary. Networks of equal weights count
once. Shares have exact intervals of 95 % (Clopper-Pearson), as if networks were drawn independently: those of one data
set and network differ less.
"""

from __future__ import annotations

import copy
import json
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest
from torch import nn

from benchmarks import ordinary
from benchmarks.ordinary import SETTINGS
from benchmarks.planted import PLANTED
from search.results.study import open_study
from search.results.verdicts import collapsed
from trainables import models
from trainables.attacks.pgd import Pgd
from trainables.data import tensors
from trainables.data.tensors import Split
from trainables.measure import evaluate, sanity_checks
from trainables.measure.evaluate import Measurement, measure
from trainables.method.protocol import Protocol
from trainables.recipes.trial import TrialSpec
from trainables.store.flags import questioned
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Storage

EXAMPLES = 300
Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A network to measure, and how."""

    name: str
    model: nn.Module
    state: State
    protocol: Protocol
    split: Split

    def judged(self, *, checked: bool = True) -> Measurement:
        with torch.random.fork_rng(devices=[]):  # The training of the next network draws on.
            torch.manual_seed(0)
            return measure(self.model, self.state, self.protocol, self.split, device="cpu", checked=checked)


@dataclass
class Clock:
    """Seconds by part of a measurement."""

    seconds: Counter[str] = field(default_factory=Counter)

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, with its time added under a name; what it yields is computed at once."""

        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            found = call(*args, **kwargs)
            found = tuple(found) if isinstance(found, Iterator) else found
            self.seconds[name] += time.process_time() - began
            return found

        return run


PARTS = (
    ("forward passes", sanity_checks, "of_passes"),
    ("gradient, noise, FGSM", sanity_checks, "of_sample"),
    ("probe", evaluate, "probe"),
)


def costs(subjects: Iterable[Subject]) -> Iterator[str]:
    """Yield a table of what the checks of some networks cost, by part."""
    clock = Clock()
    before = [(room, name, getattr(room, name)) for _, room, name in PARTS]
    for part, room, name in PARTS:
        setattr(room, name, clock.timed(part, getattr(room, name)))
    yield "| network | measured in s | checks in s | share % | forward passes | gradient, noise, FGSM | probe |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    try:
        for subject in subjects:
            began = time.process_time()
            subject.judged(checked=False)
            plain = time.process_time() - began
            clock.seconds.clear()
            began = time.process_time()
            subject.judged()
            extra = time.process_time() - began - plain
            spent = {part: clock.seconds[part] for part, _, _ in PARTS}
            # One holds the other.
            spent["gradient, noise, FGSM"] -= spent["forward passes"]
            parts = " | ".join(f"{seconds:.3f}" for seconds in spent.values())
            yield f"| {subject.name} | {plain:.3f} | {extra:.3f} | {100 * extra / plain:.0f} | {parts} |"
    finally:
        for room, name, call in before:
            setattr(room, name, call)


def of_study(storage: str, name: str, known: Container[str] = ()) -> Iterator[Subject]:
    """Yield the distinct networks of a study, as they were measured."""
    study = open_study(Storage(storage), name)
    stages, seen = Stages(study.records.storage), set()
    for trial, outcome in study.records.trials():
        spec = TrialSpec.model_validate(trial.spec)
        data = tensors.load(spec.data)
        for point in outcome.points if outcome else ():
            if point.weights_sha256 in seen or stages.find(point.stage) is None:
                continue
            seen.add(point.weights_sha256)
            title = f"{name}: t{trial.number}.{point.measure}"
            if title in known:
                continue
            shape = {"shape": data.shape, "classes": data.classes, "mean": data.mean, "std": data.std}
            model = models.build(spec.model, **shape, seed=spec.seed)
            yield Subject(title, model, stages.read(point.stage), spec.protocol, data.validation)


def trained(name: str, seeds: int, kinds: tuple[str, ...] = (), known: Iterable[str] = ()) -> Iterator[Subject]:
    """Yield the ordinary networks of a data set that are trained here."""
    setting, prefix = SETTINGS[name], f"{name}: "
    data = tensors.load(setting.data)
    protocol = Protocol(attack=Pgd(steps=20), eps=setting.eps, examples=EXAMPLES)
    names = {title.removeprefix(prefix) for title in known if title.startswith(prefix)}
    for net in ordinary.networks(setting, data, seeds, kinds, known=names):
        yield Subject(prefix + net.name, net.model, net.state, protocol, data.validation)


def base_of(name: str) -> Subject:
    """Return the network of a data set that planted ones stand around."""
    return next(subject for subject in trained(name, 1, (SETTINGS[name].base,)) if "adversarial" in subject.name)


def planted(name: str, known: Container[str] = ()) -> Iterator[Subject]:
    """Yield the network that the planted ones of a data set stand around, and those."""
    titles = {f"{name}, planted: {plant}": wrap for plant, wrap in PLANTED.items()}
    if all(title in known for title in titles):
        return
    base = base_of(name)
    for title, wrap in titles.items():
        if title not in known:
            model = wrap(base.state.into(copy.deepcopy(base.model)))
            yield Subject(title, model, State.of(model), base.protocol, base.split)


def measure_all(data: list[str], seeds: int, storage: str, studies: list[str], output: Path) -> None:
    """Append what is missing to the file, and say what is flagged."""
    known = {row["name"] for row in read(output)}
    for name in studies:
        for subject in of_study(storage, name, known):
            _append(output, "ordinary", name, subject)
    for name in data:
        for subject in trained(name, seeds, known=known):
            _append(output, "ordinary", name, subject)
    for name in data:
        for subject in planted(name, known):
            _append(output, "planted", name, subject)


def _append(output: Path, kind: str, group: str, subject: Subject) -> None:
    began = time.process_time()
    result = subject.judged()
    row = {
        "name": subject.name,
        "kind": kind,
        "group": group,
        "weights_sha256": result.weights_sha256,
        "examples": len(result.clean_correct),
        "chance": float(subject.split.y.bincount().max()) / len(subject.split),
        "clean": round(float(result.clean_correct.mean()), 4),
        "robust": round(float(result.robust_correct.mean()), 4),
        "status": result.status,
        "flags": list(result.flags),
        "seconds": round(time.process_time() - began, 2),
    }
    with output.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(f"{row['name']}: {row['clean']:.3f}, {row['robust']:.3f}, {row['status']} {result.flags}", flush=True)


def read(path: Path) -> list[Row]:
    """Return the rows of a file, none if it is not there."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def table(rows: list[Row]) -> Iterator[str]:
    """Yield what is said of the planted networks, and of the ordinary ones."""
    for kind, counts in (("planted", _planted), ("ordinary", _ordinary)):
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if row["kind"] == kind:
                groups.setdefault(row["group"], []).append(row)
        total: Counter[str] = Counter()
        titles, found = zip(*((name, counts(group)) for name, group in groups.items()), strict=True)
        yield f"| {kind} | {' | '.join(found[0])} |"
        yield "| --- |" + " --- |" * len(found[0])
        for title, counted in zip(titles, found, strict=True):
            total.update(counted)
            yield f"| {title} | {' | '.join(map(str, counted.values()))} |"
        yield f"| all | {' | '.join(str(total[name]) for name in found[0])} |\n"
        of = total["ordinary" if kind == "ordinary" else "networks"]
        yield f"Questioned of all {kind} ones: {share(total['questioned'], of)}\n"
    yield "| flagged or collapsed, ordinary | clean % | robust % | flags |\n| --- | --- | --- | --- |"
    for row in _distinct(rows):
        if _flags(row):
            what = f"{row['name']}{' (collapsed)' if _collapsed(row) else ''}"
            yield f"| {what} | {100 * row['clean']:.1f} | {100 * row['robust']:.1f} | {', '.join(_flags(row))} |"


def share(found: int, of: int) -> str:
    """Write a share in percent with its exact interval."""
    if not of:
        return "none measured"
    ends = binomtest(found, of).proportion_ci(0.95, method="exact")
    return f"{found} of {of}, {100 * found / of:.1f} % [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"


def _planted(rows: list[Row]) -> dict[str, int]:
    return {
        "networks": len(rows),
        "invalid": sum(row["status"] == "invalid" for row in rows),
        "warned": sum(row["status"] == "warn" for row in rows),
        "questioned": sum(questioned(row["flags"]) for row in rows),
        "not flagged": sum(row["status"] == "ok" for row in rows),
    }


def _ordinary(rows: list[Row]) -> dict[str, int]:
    distinct = _distinct(rows)
    alive = [row for row in distinct if not _collapsed(row)]
    return {
        "measured": len(rows),
        "distinct": len(distinct),
        "collapsed": len(distinct) - len(alive),
        "ordinary": len(alive),
        "questioned": sum(questioned(row["flags"]) for row in alive),
        "flagged otherwise": sum(bool(_flags(row)) and not questioned(row["flags"]) for row in alive),
    }


def _distinct(rows: list[Row]) -> list[Row]:
    return list({row["weights_sha256"]: row for row in reversed(rows) if row["kind"] == "ordinary"}.values())[::-1]


def _collapsed(row: Row) -> bool:
    return collapsed(row["clean"], row["chance"])


def _flags(row: Row) -> list[str]:
    """Return the flags that say something of robustness or of accuracy: that weights are outside does not."""
    return [flag for flag in row["flags"] if flag != "weights_outside"]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure", help="append what is missing to a file")
    one.add_argument("--data", nargs="*", default=list(SETTINGS), choices=SETTINGS, help="to train on")
    one.add_argument("--seeds", type=int, default=1, help="of the networks that are trained here")
    one.add_argument("--storage", default="runs", help="where the studies are")
    one.add_argument("--studies", nargs="*", default=[], help="whose networks are ordinary ones, too")
    one.add_argument("--output", type=Path, default=Path("diagnostics.jsonl"))
    two = commands.add_parser("table", help="print what a file holds")
    two.add_argument("file", type=Path)
    three = commands.add_parser("costs", help="print what the checks cost")
    three.add_argument("--data", nargs="*", default=list(SETTINGS), choices=SETTINGS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.command == "measure":
        measure_all(given.data, given.seeds, given.storage, given.studies, given.output)
        return
    for line in costs(map(base_of, given.data)) if given.command == "costs" else table(read(given.file)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
