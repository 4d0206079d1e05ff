"""Compare attacks as estimates of robust accuracy: at equal numbers of gradients, by the gap to AutoAttack.

Measures trained networks of stored studies over the whole range of sparsity, each with every attack of `CHOICES` and
with a reference, AutoAttack standard (pyautoattack) or its first two stages, on the same first examples of the
validation split. Results are appended to a file of JSON lines, one per network and attack, and what is in it is not
measured again.

    python benchmarks/estimates.py measure STORAGE quickstart mnist --points 8 --examples 300 --output estimates.jsonl
    python benchmarks/estimates.py measure STORAGE quickstart mnist --points 8 --examples 300 --reference autoattack
    python benchmarks/estimates.py table estimates.jsonl
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

import torch
from torch import Tensor, nn

from search.results.study import Study
from trainables import models
from trainables.attacks import ATTACKS
from trainables.attacks.apgd import ApgdDlr
from trainables.attacks.base import Attack
from trainables.data import tensors
from trainables.data.tensors import TrainingData
from trainables.measure.evaluate import measure, pack_verdicts, unpack_verdicts
from trainables.method.protocol import Protocol
from trainables.recipes.trial import TrialSpec
from trainables.store.records import Point, TrialRecord, point_id
from trainables.store.stages import Stages

REFERENCES: dict[str, dict[str, Any]] = {
    "autoattack": {"kind": "autoattack"},
    "apgd": {"kind": "worst", "attacks": [{"kind": "apgd-ce"}, {"kind": "apgd-t"}]},
}
"""AutoAttack, and its first two stages, which cost a fifth; the first that a network has been measured with counts."""


class ApgdMargin(ApgdDlr):
    """APGD on the margin, which is not a kind of its own: DLR is the margin, scaled."""

    ascends = "margin"


def _pgd(steps: int, loss: str = "ce") -> dict[str, Any]:
    return {"kind": "pgd", "steps": steps, "loss": loss}


def _apgd(loss: str, steps: int, **more: Any) -> dict[str, Any]:
    return {"kind": f"apgd-{loss}", "steps": steps, **more}


def _worst(*attacks: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "worst", "attacks": list(attacks)}


def _targets(targets: int, steps: int) -> dict[str, Any]:
    return _apgd("t", steps, targets=targets)


CHOICES: dict[int, list[dict[str, Any]]] = {
    20: [
        _pgd(20),
        _pgd(20, "margin"),
        _pgd(20, "dlr"),
        _apgd("ce", 20),
        _apgd("dlr", 20),
        _targets(2, 10),
        _targets(4, 5),
        _worst(_pgd(10), _pgd(10, "margin")),
        _worst(_pgd(10, "margin"), _targets(2, 5)),
        _worst(_apgd("ce", 10), _apgd("dlr", 10)),
        _worst(_apgd("ce", 10), _targets(2, 5)),
    ],
    40: [
        _pgd(40),
        _pgd(40, "margin"),
        _pgd(40, "dlr"),
        _apgd("ce", 40),
        _apgd("dlr", 40),
        _targets(2, 20),
        _targets(4, 10),
        _targets(8, 5),
        _worst(_pgd(20), _pgd(20, "margin")),
        _worst(_pgd(10, "margin"), _targets(3, 10)),
        _worst(_pgd(20, "margin"), _targets(4, 5)),
        _worst(_apgd("ce", 20), _apgd("dlr", 20)),
        _worst(_apgd("ce", 10), _targets(3, 10)),
        _worst(_apgd("ce", 10), _targets(2, 15)),
        _worst(_apgd("dlr", 20), _targets(4, 5)),
    ],
    30: [
        _worst(_pgd(10, "margin"), _targets(2, 10)),
        _worst(_pgd(10, "margin"), _targets(4, 5)),
    ],
    60: [
        _worst(_pgd(10, "margin"), _targets(5, 10)),
        _worst(_pgd(15, "margin"), _targets(9, 5)),
        _worst(_apgd("ce", 15), _targets(9, 5)),
        _worst(_apgd("ce", 20), _targets(4, 10)),
        _worst(_apgd("ce", 20), _targets(2, 20)),
        _worst(_apgd("ce", 15), _targets(3, 15)),
        _worst(_pgd(10), _pgd(10, "margin"), _targets(4, 10)),
    ],
}
"""Attacks by the number of gradients of an example that stands to the end."""


def attacks() -> dict[str, tuple[int, Attack]]:
    """Return the number of gradients and the attack, by label."""
    found = [(n, ATTACKS.parse(fields)) for n, listed in CHOICES.items() for fields in listed]
    found += [(n, ApgdMargin(steps=n)) for n in (20, 40)]
    return {a.label.replace("DLR", "margin") if isinstance(a, ApgdMargin) else a.label: (n, a) for n, a in found}


def chosen(study: Study, count: int) -> list[tuple[TrialRecord, Point]]:
    """Return the most robust point in each of `count` equal ranges of the logarithm of the density."""
    points = [
        (trial, point)
        for trial, outcome in study.records.trials()
        if outcome is not None and outcome.state == "complete"
        for point in outcome.points
    ]
    logs = [math.log(max(point.nonzero, 1) / point.prunable) for _, point in points]
    best: dict[int, tuple[TrialRecord, Point]] = {}
    for (trial, point), value in zip(points, logs, strict=True):
        place = min(int(count * value / (min(logs) or -1)), count - 1)
        if place not in best or point.robust_correct > best[place][1].robust_correct:
            best[place] = (trial, point)
    # By bits from the last one, so that a run that is cut short has seen the whole range.
    return [best[place] for place in sorted(best, key=lambda place: f"{place:08b}"[::-1])]


def counting(net: nn.Module) -> dict[str, int]:
    """Let a network count, in the result, the images that pass with their gradient (`gradients`) and without."""
    counts = {"gradients": 0, "forwards": 0}

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counts["gradients" if inputs[0].requires_grad and torch.is_grad_enabled() else "forwards"] += len(inputs[0])

    net.register_forward_pre_hook(count)
    return counts


def measured(
    study: Study, data: TrainingData, trial: TrialRecord, point: Point, attack: Attack, examples: int
) -> dict[str, Any]:
    """Measure a point's network with another attack; the rest of its protocol stays."""
    spec = TrialSpec.model_validate(trial.spec)
    net = models.build_for(data, spec.model, seed=spec.seed)
    state = Stages(study.records.storage).read(point.stage)
    counts = counting(net)
    protocol = Protocol(attack=attack, eps=spec.protocol.eps, examples=examples, seed=spec.protocol.seed)
    started = time.monotonic()
    found = measure(net, state, protocol, data.validation, device="cpu", checked=False)
    return {
        "robust": pack_verdicts(found.robust_correct),
        "clean": pack_verdicts(found.clean_correct),
        "seconds": time.monotonic() - started,
        **counts,
    }


def measure_all(
    storage: str, names: list[str], points: int, examples: int, output: Path, listed: dict[str, tuple[int, Attack]]
) -> None:
    """Append what is missing to the file, and say it."""
    done = {(row["study"], row["point"], row["attack"], row["examples"]) for row in read(output)}
    for name in names:
        study = Study.open(f"{storage}/{name}")
        data = tensors.load(study.spec.data)
        for trial, point in chosen(study, points):
            for label, (gradients, attack) in listed.items():
                where = {"study": name, "point": point_id(trial.number, point.measure), "attack": label}
                if (*where.values(), examples) in done:
                    continue
                row = {**where, "budget": gradients, "examples": examples, "sparsity": point.sparsity}
                row |= measured(study, data, trial, point, attack, examples)
                with output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                robust = unpack_verdicts(row["robust"], examples).mean()
                what = f"{name} {where['point']} at {point.sparsity:.3f}, {label}"
                print(f"{what}: {robust:.3f} in {row['seconds']:.1f} s", flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


RANGES = ((0.0, 0.5), (0.5, 0.9), (0.9, 1.0))
"""The ranges of sparsity of the table's columns; each includes its lower end."""


def table(path: Path) -> None:
    """Print, per attack, the gap to AutoAttack in points, and the cost as a share of PGD-20's on the same networks."""
    networks: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in read(path):
        networks[row["study"], row["point"], row["examples"]][row["attack"]] = row
    complete = {name: rows for name, rows in networks.items() if REFERENCES.keys() & rows.keys() and "PGD-20" in rows}
    for study in sorted({name[0] for name in complete}):
        rows = [rows for name, rows in complete.items() if name[0] == study]
        n = {row["PGD-20"]["examples"] for row in rows}
        against = Counter(_reference(row) for row in rows)
        kinds = ", ".join(f"{count} against {name}" for name, count in against.items())
        print(f"\n{study}: {len(rows)} networks ({kinds}), n = {', '.join(map(str, sorted(n)))}")
        _print(rows)
    print(f"\nall: {len(complete)} networks")
    _print(list(complete.values()))


def _print(networks: list[dict[str, dict[str, Any]]]) -> None:
    ranges = [f"{low:.0%} to {high:.0%}" for low, high in RANGES]
    print("| attack | gradients | mean gap | largest | " + " | ".join(ranges) + " | gradients made | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for label in dict.fromkeys(label for rows in networks for label in rows if label not in REFERENCES):
        having = [rows for rows in networks if label in rows]
        gaps = [(rows[label]["sparsity"], _gap(rows, label)) for rows in having]
        within = [[gap for sparsity, gap in gaps if low <= sparsity < high] for low, high in RANGES]
        cells = [
            label if len(having) == len(networks) else f"{label} ({len(having)} networks)",
            str(having[0][label]["budget"]),
            f"{statistics.mean(gap for _, gap in gaps):.2f}",
            f"{max(gap for _, gap in gaps):.1f}",
            *(f"{statistics.mean(part):.2f}" if part else "" for part in within),
            *(f"{_share(having, label, what):.2f}" for what in ("gradients", "seconds")),
        ]
        print(f"| {' | '.join(cells)} |")


def _gap(rows: dict[str, dict[str, Any]], label: str) -> float:
    """Return by how many points an attack's robust accuracy exceeds the reference's."""
    both = (label, _reference(rows))
    ours, theirs = (unpack_verdicts(rows[name]["robust"], rows[name]["examples"]) for name in both)
    return 100 * float(ours.mean() - theirs.mean())


def _reference(rows: dict[str, dict[str, Any]]) -> str:
    return next(name for name in REFERENCES if name in rows)


def _share(networks: list[dict[str, dict[str, Any]]], label: str, what: str) -> float:
    """Return the cost of an attack over that of PGD-20: the geometric mean over networks."""
    return statistics.geometric_mean(rows[label][what] / rows["PGD-20"][what] for rows in networks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("storage")
    one.add_argument("names", nargs="+")
    one.add_argument("--points", type=int, default=8)
    one.add_argument("--examples", type=int, default=200)
    one.add_argument("--output", type=Path, default=Path("estimates.jsonl"))
    one.add_argument("--reference", choices=REFERENCES, help="this instead of the attacks that are compared")
    one.add_argument("--only", nargs="+", help="only the attacks of these labels")
    two = commands.add_parser("table")
    two.add_argument("file", type=Path)
    given = parser.parse_args()
    if given.command == "table":
        table(given.file)
        return
    listed = {label: each for label, each in attacks().items() if not given.only or label in given.only}
    if given.reference:
        listed = {given.reference: (0, ATTACKS.parse(REFERENCES[given.reference]))}
    measure_all(given.storage, given.names, given.points, given.examples, given.output, listed)


if __name__ == "__main__":
    main()
