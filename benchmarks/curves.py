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
from search.space.parameters import SPARSITY_PATH, combinations
from search.study.spec import StudySpec
from trainables.method.phases import Train
from trainables.recipes.trial import keyed_phases

Values = list[float]
Params = dict[str, Any]


def choices_of(spec: StudySpec) -> dict[str, list[Any]]:
    """Return the choices of each searched parameter but the sparsity."""
    return {path: parameter.spaced(0) for path, parameter in spec.space.items() if path != SPARSITY_PATH}


def chained(spec: StudySpec) -> Iterator[Params]:
    """Yield every combination of choices but the sparsity's: all chains."""
    yield from combinations(spec.space, choices_of(spec))


def dense_paths(spec: StudySpec) -> list[str]:
    """Return the parameters on which the first training depends."""
    choices = choices_of(spec)
    base = {path: options[0] for path, options in choices.items()}

    def key(params: Params) -> str:
        return next(s.key for s in keyed_phases(spec.trial(params), "") if isinstance(s.phase, Train))

    return [path for path, found in choices.items() if len({key({**base, path: value}) for value in found}) > 1]


@dataclass(frozen=True)
class Epoch:
    """A network on the way: what the study's protocol counts, and a cheap one; fractions.

    The cheap ones, and the epochs within a round, are in the older tables alone.
    """

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


def is_complete(path: Path) -> bool:
    """Return whether a table has all dense trainings of its study."""
    about = pq.read_schema(path).metadata
    return int(about[b"parts"]) == int(about[b"of"])


class Curves:
    """The chains of a study."""

    def __init__(self, spec: StudySpec, examples: int, chains: Mapping[tuple[int, ...], Chain]) -> None:
        """Take chains by the positions of their choices."""
        self.spec = spec
        self.examples = examples
        self.choices = choices_of(spec)
        self._chains = chains
        recipe: Any = spec.recipe
        self.rungs: tuple[float, ...] = tuple(spec.space[SPARSITY_PATH].spaced(0))
        self.dense_epochs: int = recipe.epochs
        self.round_epochs: int = recipe.round_epochs

    @classmethod
    def read(cls, path: Path) -> Curves:
        """Read a table, which may be incomplete."""
        table = pq.read_table(path)
        about = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}
        examples, cheap = int(about["examples"]), json.loads(about.get("cheap", '{"examples": 1}'))["examples"]
        spec = StudySpec.model_validate(json.loads(about["study"]))
        paths = list(choices_of(spec))
        dense_at = [paths.index(found) for found in dense_paths(spec)]
        dense: dict[tuple[int, ...], list[Epoch]] = {}
        pruned: dict[tuple[int, ...], dict[int, list[Epoch]]] = {}
        for row in table.to_pylist():
            at = tuple(row[name] for name in paths)
            epoch = Epoch(
                robust=row["robust"] / examples,
                clean=row["clean"] / examples,
                sparsity=row["sparsity"],
                cheap_robust=row.get("cheap_robust", 0) / cheap,
                cheap_clean=row.get("cheap_clean", 0) / cheap,
                status=row.get("status", "ok"),
            )
            if row["round"]:
                pruned.setdefault(at, {}).setdefault(row["round"], []).append(epoch)
            else:
                dense.setdefault(tuple(at[index] for index in dense_at), []).append(epoch)
        chains = {
            at: {
                0: tuple(dense[tuple(at[index] for index in dense_at)]),
                **{number: tuple(epochs) for number, epochs in rounds.items()},
            }
            for at, rounds in pruned.items()
        }
        return cls(spec, examples, chains)

    @property
    def by_epoch(self) -> bool:
        """Whether every epoch was measured, which early stopping needs; else only the ends of rounds."""
        chain = next(iter(self._chains.values()))
        return len(chain[0]) == self.dense_epochs

    def chain(self, params: Mapping[str, Any]) -> Chain:
        """Return the chain of a trial with these values by dotted path, whatever its sparsity."""
        return self._chains[tuple(options.index(params[path]) for path, options in self.choices.items())]

    def epochs(self, rounds: int) -> int:
        """Return the epochs that a trial with this many rounds trains if nothing is shared."""
        return self.dense_epochs + rounds * self.round_epochs

    def chains(self) -> Iterator[tuple[Params, list[Epoch]]]:
        """Yield every chain's values, and the networks that its trials can report: the ends of its rounds."""
        for at, chain in self._chains.items():
            params = {path: options[index] for (path, options), index in zip(self.choices.items(), at, strict=True)}
            yield params, [epochs[-1] for number, epochs in chain.items() if number]

    @cached_property
    def ideal(self) -> float:
        """The best known hypervolume: that of the whole table."""
        ends = (epoch for _, ladder in self.chains() for epoch in ladder)
        return pareto.hypervolume([epoch.values for epoch in ends if epoch.status != "invalid"])
