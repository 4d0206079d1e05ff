"""Studies of tables of papers that nobody trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.results.study import Study
from search.store.records import Records
from search.study import reproduction
from search.study.spec import Reproduces, StudySpec
from tests.search.factories import FINGERPRINT, outcome, point, trial
from trainables.core.spec import plain
from trainables.method.phases import Inherit, Measure, Prune, Train
from trainables.recipes.trial import keyed_phases
from trainables.store.storage import Storage

MNIST = Reproduces(paper="cosentino2019", table="mnist")
ATTACKED = "PGD: adversarial training, attacked"


def inverted_u(seed: int, params: dict[str, Any], sparsity: float) -> float:
    """As the paper has it for PGD, with half a point between seeds; nothing without adversarial training."""
    if params["recipe.train.loss.kind"] == "natural":
        return 0.02 + 0.005 * seed
    levels = {0.0: 0.45, 0.488: 0.60, 0.832: 0.60, 0.914: 0.58, 0.965: 0.49, 0.982: 0.38}
    near = min(levels, key=lambda level: abs(level - sparsity))
    return levels[near] + 0.005 * seed


class Made:
    """A study of a table without any training, whose numbers `robust` gives by seed, parameters and sparsity."""

    def __init__(self, folder: Path, of: Reproduces, seeds: int | None = 2, **changes: Any) -> None:
        self.spec = reproduction.study(of, seeds).model_copy(update=changes)
        self.records = Records.create(Storage(str(folder)), self.spec, FINGERPRINT)
        self.robust = lambda seed, params, sparsity: 0.5 + 0.01 * seed
        self.clean = lambda seed, params, sparsity: 0.95

    def study(self, leave_out: int = 0) -> Study:
        number = 0
        configurations = list(self.spec.sampler.every(self.spec.space))  # type: ignore[attr-defined]
        for at, params in enumerate(configurations):
            for seed in self.spec.seeds:
                described = self.spec.trial(params, seed)
                chain = keyed_phases(described, FINGERPRINT.data_hash)
                keys = tuple(step.key for step in chain)
                issued = trial(number, self.spec, configuration=at, seed=seed, params=params)
                issued = issued.model_copy(update={"spec": plain(described), "keys": keys})
                self.records.issue(issued)
                if number < len(configurations) * len(self.spec.seeds) - leave_out:
                    self.records.write_outcome(outcome(number, self._measured(self.spec, chain, params, seed)))
                number += 1
        return Study(Records.open(self.records.storage))

    def _measured(self, spec: StudySpec, chain: Any, params: dict[str, Any], seed: int) -> list[Any]:
        found, sparsity = [], 0.0
        for step in chain:
            if isinstance(step.phase, (Prune, Train)):
                within = step.phase if isinstance(step.phase, Prune) else step.phase.rewiring
                sparsity = getattr(within, "sparsity", sparsity)
            elif isinstance(step.phase, Inherit):
                sparsity = 0.0
            elif isinstance(step.phase, Measure):
                robust = self.robust(seed, params, sparsity)
                names = [c.value for c in reproduction.table(spec.reproduces).columns]  # type: ignore[arg-type]
                metrics = {name.removeprefix("metric."): robust for name in names if name.startswith("metric.")}
                labels = {"attack": spec.protocol.attack.label, "eps": float(spec.protocol.eps)}
                labels |= {"eps_text": spec.protocol.eps.text, "key": step.key, "stage": step.parent}
                labels |= {"examples": spec.protocol.examples or 10_000}
                clean = self.clean(seed, params, sparsity)
                numbers = {"robust_accuracy": robust, "clean_accuracy": clean, "sparsity": sparsity}
                found.append(point(len(found), epoch=step.phase.epoch, metrics=metrics, **numbers, **labels))
        return found
