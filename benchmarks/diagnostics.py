"""Which networks the flags of a measurement tell apart, and what they cost.

Planted networks that mask their gradients (`benchmarks.planted`) stand around a trained one; ordinary ones are trained
here (`benchmarks.ordinary`) or taken from studies:

    python -m benchmarks.diagnostics --seeds 1 --storage runs --studies quickstart --output diagnostics.md

A network of at most twice the accuracy of chance counts as collapsed, not as ordinary.
"""

from __future__ import annotations

import copy
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import ordinary
from benchmarks.planted import PLANTED
from search.results.study import open_study
from trainables import models
from trainables.attacks.pgd import Pgd
from trainables.data import tensors
from trainables.data.digits import Digits
from trainables.data.tensors import Split
from trainables.measure import evaluate, sanity_checks
from trainables.measure.evaluate import Measurement, measure
from trainables.method.protocol import Protocol
from trainables.recipes.trial import TrialSpec
from trainables.store.stages import Stages
from trainables.store.state import State
from trainables.store.storage import Storage

QUICK = Protocol(attack=Pgd(steps=20), eps=ordinary.EPS)


@dataclass(frozen=True)
class Subject:
    """A network to measure, and how."""

    name: str
    model: nn.Module
    state: State
    protocol: Protocol
    split: Split

    def judged(self, *, checked: bool = True) -> Measurement:
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


def of_study(storage: str, name: str) -> Iterator[Subject]:
    """Yield the distinct networks of a study, as they were measured."""
    study = open_study(Storage(storage), name)
    stages, seen = Stages(study.records.storage), set()
    for trial, outcome in study.records.trials():
        spec = TrialSpec.model_validate(trial.spec)
        data = tensors.load(spec.data)
        for point in outcome.points if outcome else ():
            if point.weights_sha256 not in seen:
                seen.add(point.weights_sha256)
                shape = {"shape": data.shape, "classes": data.classes, "mean": data.mean, "std": data.std}
                model = models.build(spec.model, **shape, seed=spec.seed)
                title = f"{name} t{trial.number}.{point.measure}"
                yield Subject(title, model, stages.read(point.stage), spec.protocol, data.validation)


def trained(seeds: int, kinds: tuple[str, ...] = tuple(ordinary.KINDS)) -> Iterator[Subject]:
    """Yield the ordinary networks that are trained here."""
    data = tensors.load(Digits(validation=300))
    for net in ordinary.networks(data, seeds, kinds):
        yield Subject(net.name, net.model, net.state, QUICK, data.validation)


def planted(base: Subject) -> Iterator[Subject]:
    """Yield the planted networks around a trained one."""
    for name, wrap in PLANTED.items():
        model = wrap(base.state.into(copy.deepcopy(base.model)))
        yield Subject(name, model, State.of(model), base.protocol, base.split)


def planted_table(base: Subject) -> Iterator[str]:
    """Yield what is said of each planted network."""
    true = base.judged()
    yield f"Around {base.name}: {100 * true.robust_correct.mean():.1f} % robust, flags {list(true.flags)}"
    yield "\n| planted | measured % | status | flags |\n| --- | --- | --- | --- |"
    found: Counter[str] = Counter()
    for subject in planted(base):
        result = subject.judged()
        found[result.status] += 1
        flags = ", ".join(result.flags)
        yield f"| {subject.name} | {100 * result.robust_correct.mean():.1f} | {result.status} | {flags} |"
    yield f"\n{found.total()} planted: {found['invalid']} invalid, {found['warn']} warned, {found['ok']} not flagged\n"


def ordinary_table(subjects: Iterable[Subject]) -> Iterator[str]:
    """Yield the ordinary networks that are flagged, and the counts."""
    yield "| ordinary | clean % | robust % | flags |\n| --- | --- | --- | --- |"
    counts: Counter[str] = Counter()
    for subject in subjects:
        result = subject.judged()
        chance = float(subject.split.y.bincount().max()) / len(subject.split)
        collapsed = result.clean_correct.mean() <= 2 * chance
        counts["collapsed" if collapsed else "ordinary"] += 1
        # That weights are outside says nothing of robustness.
        if (flags := [flag for flag in result.flags if flag != "weights_outside"]) and not collapsed:
            counts["flagged"] += 1
            shares = f"{100 * result.clean_correct.mean():.1f} | {100 * result.robust_correct.mean():.1f}"
            yield f"| {subject.name} | {shares} | {', '.join(flags)} |"
    yield f"\n{counts['ordinary']} ordinary networks, {counts['flagged']} flagged, {counts['collapsed']} collapsed\n"


def subjects(options: Namespace) -> Iterator[Subject]:
    """Yield all ordinary networks that are asked for."""
    for name in options.studies:
        yield from of_study(options.storage, name)
    yield from trained(options.seeds)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="of the networks that are trained here, 252 for each")
    parser.add_argument("--storage", default="runs", help="where the studies are")
    parser.add_argument("--studies", nargs="*", default=[], help="whose networks are ordinary ones, too")
    parser.add_argument("--output", type=Path, help="the file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = next(subject for subject in trained(1, ("ReLU",)) if "adversarial" in subject.name)
    lines = []
    for line in chain(planted_table(base), costs([base]), [""], ordinary_table(subjects(options))):
        lines.append(line)
        print(line, flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
