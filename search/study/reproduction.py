"""Papers' tables as data: the study that fills a table, what stands where in it, and the published numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache
from importlib import resources
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from search.files.diagnostics import spec_error
from search.files.yaml import parse
from search.study import file as study_file
from search.study.lengths import scaled, shortened
from search.study.spec import Reproduces, StudySpec
from trainables.core.errors import SpecError
from trainables.core.registry import nearest
from trainables.core.spec import Spec, located

Cell = tuple[str, str]
"""A cell of a table: the names of its row and its column."""
Number = float | tuple[float, float | None] | None
"""A published number, or its mean and standard deviation; None where it is not known."""


class Column(Spec):
    """What the cells of a column are of, and which of its numbers they show."""

    name: str
    where: dict[str, Any] = Field(default={}, description="parameters of the networks, and `epoch` within a training")
    value: str = Field(
        pattern=r"^((confirmed\.)?(clean|robust)_accuracy|metric\..+)$",
        description="the number: `clean_accuracy` or `robust_accuracy`, of the search or, with `confirmed.` before it, "
        "of the test split; or `metric.<name>`",
    )
    accuracy: bool = Field(default=True, description="whether it is an accuracy, which the paper gives in percent")


class Row(Spec):
    """What the cells of a row are of, and what the paper has in them, column by column."""

    name: str
    where: dict[str, Any] = Field(default={}, description="parameters of the networks, and `sparsity`, nearly")
    paper: tuple[Number, ...] = Field(default=(), description="the published numbers; none where no number is known")


class Comparison(Spec):
    """A statement about a cell, or about the difference of two; accuracies in percent.

    A `relative` difference is a share of that to which it is. With `also`, such as a bound on what a gain costs, these
    hold too, or the statement does not.
    """

    of: Cell
    than: Cell | None = None
    relative: bool = False
    at_least: float | None = None
    more_than: float | None = None
    at_most: float | None = None
    less_than: float | None = None
    also: tuple[Comparison, ...] = ()

    def cells(self) -> Iterator[Cell]:
        """Yield all cells that the statement is about."""
        yield from (self.of, *([self.than] if self.than else []))
        for part in self.also:
            yield from part.cells()


class Claim(Spec):
    """What the paper claims of its table: that all of these hold, or `some` of them does too."""

    text: str
    every: tuple[Comparison, ...] = ()
    some: tuple[Comparison, ...] = ()


class Table(Spec):
    """One table of a paper, and the study that fills it."""

    title: str
    evidence: str = Field(description="where the published numbers are from")
    differs: tuple[str, ...] = Field(default=(), description="how our study differs from the paper's, known or not")
    study: dict[str, Any] = Field(description="the study at its published length, without a name")
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        for index, row in enumerate(self.rows):
            if row.paper and len(row.paper) != len(self.columns):
                raise located(f"{len(row.paper)} numbers for {len(self.columns)} columns", "rows", index, "paper")
        rows, columns = {row.name for row in self.rows}, {column.name for column in self.columns}
        for index, claim in enumerate(self.claims):
            for cell in (cell for part in (*claim.every, *claim.some) for cell in part.cells()):
                if cell[0] not in rows or cell[1] not in columns:
                    raise located(f"there is no cell {cell}", "claims", index)
        return self


class Paper(Spec):
    """The tables of one paper. In its file, a table `like` another has what the other says, where it says nothing."""

    title: str
    source: str
    tables: dict[str, Table] = Field(min_length=1)


def names() -> list[str]:
    """Return the papers that can be reproduced."""
    files = (resources.files("search.study") / "papers").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in files if entry.name.endswith(".yaml"))


@lru_cache(maxsize=32)
def paper(name: str) -> Paper:
    """Return a paper.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in names():
        raise SpecError(f"no tables of '{name}'{nearest(name, names())}; there are those of {', '.join(names())}")
    text = (resources.files("search.study") / "papers" / f"{name}.yaml").read_text(encoding="utf-8")
    document = parse(text, f"{name}.yaml")
    for table in document.data["tables"].values():
        if other := document.data["tables"].get(table.pop("like", None)):
            study = {**other["study"], **table.get("study", {})}
            table |= {**other, **table, "study": study}
    try:
        return Paper.model_validate(document.data)
    except ValidationError as error:
        raise spec_error(error, document, Paper) from None


def table(of: Reproduces) -> Table:
    """Return the table that a study fills.

    Raises:
        SpecError: this version has none of that name.
    """
    found = paper(of.paper)
    if of.table not in found.tables:
        known = ", ".join(found.tables)
        raise SpecError(f"{of.paper} has no table '{of.table}'{nearest(of.table, found.tables)}; there are: {known}")
    return found.tables[of.table]


def study(of: Reproduces, seeds: int | None = None, overrides: tuple[str, ...] = ()) -> StudySpec:
    """Return the study that fills a table, at the published length or, with a scale, a shorter one.

    `seeds` is the number of replicates, by default as many runs as the paper has.

    Raises:
        SpecError: there is no such table, or an override is wrong.
    """
    data = {"name": study_name(of), **table(of).study, "reproduces": of.model_dump()}
    if seeds is not None:
        data["seeds"] = list(range(seeds))
    if of.scale != 1:
        data = shortened(study_file.from_dict(data, of.paper).resolved(), of.scale)
    return study_file.from_dict(data, of.paper, overrides)


def study_name(of: Reproduces) -> str:
    """Return the name of the study that fills a table."""
    return "-".join([of.paper, of.table, *([f"scale-{of.scale:g}"] if of.scale != 1 else [])])


def conditions(of: Reproduces, row: Row, column: Column, measured: Collection[int]) -> dict[str, Any]:
    """Return what a cell's networks have; the epoch is that of a shorter training, None where that has none.

    `measured` are the epochs within trainings that the study measures.
    """
    wanted = {**row.where, **column.where}
    if "epoch" in wanted:
        at = scaled(wanted["epoch"], of.scale)
        wanted["epoch"] = at if at in measured else None
    return {"epoch": None, **wanted}
