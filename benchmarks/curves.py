"""The curves that `make_tables.py` trained, looked up by the values of a trial."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from search.objectives import pareto
from search.study.spec import StudySpec

SPARSITY, REWIND = "recipe.sparsity", "recipe.rewind"
EPS, LOSS, L1, GROUP_LASSO = (
    f"recipe.train.{name}" for name in ("eps", "loss.kind", "regularisers.l1", "regularisers.group_lasso")
)
DENSE = (EPS, LOSS, L1, GROUP_LASSO)

Values = list[float]


@dataclass(frozen=True)
class Epoch:
    """A network on the way: what the study's protocol counts, and a cheap one; fractions."""

    robust: float
    clean: float
    sparsity: float
    cheap_robust: float
    cheap_clean: float
    status: str

    @property
    def values(self) -> Values:
        """The objectives, both maximised above 0."""
        return [self.robust, self.sparsity]


Chain = dict[int, tuple[Epoch, ...]]
"""The epochs of a chain by round; 0 is the dense training."""


class Curves:
    """All chains of a study."""

    def __init__(self, spec: StudySpec, examples: int, chains: Mapping[tuple[Any, ...], Chain]) -> None:
        """Take chains by the values of `DENSE` and the way to rewind, as text."""
        self.spec = spec
        self.examples = examples
        self._chains = chains
        recipe: Any = spec.recipe
        rungs: Any = spec.space[SPARSITY]
        self.rungs: tuple[float, ...] = rungs.choices
        self.dense_epochs: int = recipe.epochs
        self.round_epochs: int = recipe.round_epochs

    @classmethod
    def read(cls, path: Path) -> Curves:
        """Read a table."""
        table = pq.read_table(path)
        about = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}
        examples, cheap = int(about["examples"]), json.loads(about["cheap"])["examples"]
        dense: dict[tuple[Any, ...], list[Epoch]] = {}
        pruned: dict[tuple[Any, ...], dict[int, list[Epoch]]] = {}
        for row in table.to_pylist():
            values = (row["eps"], row["loss"], row["l1"], row["group_lasso"])
            epoch = Epoch(
                robust=row["robust"] / examples,
                clean=row["clean"] / examples,
                sparsity=row["sparsity"],
                cheap_robust=row["cheap_robust"] / cheap,
                cheap_clean=row["cheap_clean"] / cheap,
                status=row["status"],
            )
            if row["rewind"] is None:
                dense.setdefault(values, []).append(epoch)
            else:
                pruned.setdefault((*values, row["rewind"]), {}).setdefault(row["round"], []).append(epoch)
        chains = {
            values: {0: tuple(dense[values[:-1]]), **{number: tuple(epochs) for number, epochs in rounds.items()}}
            for values, rounds in pruned.items()
        }
        return cls(StudySpec.model_validate(json.loads(about["study"])), examples, chains)

    def chain(self, params: Mapping[str, Any]) -> Chain:
        """Return the chain of a trial with these values by dotted path, whatever its sparsity."""
        return self._chains[(*(params[path] for path in DENSE), str(params[REWIND]))]

    def epochs(self, rounds: int) -> int:
        """Return the epochs that a trial with this many rounds trains if nothing is shared."""
        return self.dense_epochs + rounds * self.round_epochs

    def ends(self) -> Iterator[Epoch]:
        """Yield every network that a trial can report: those at the ends of the rounds, without the dense ones."""
        for chain in self._chains.values():
            yield from (epochs[-1] for number, epochs in chain.items() if number)

    @cached_property
    def ideal(self) -> float:
        """The best known hypervolume: that of the whole table."""
        return pareto.hypervolume([epoch.values for epoch in self.ends() if epoch.status != "invalid"])
