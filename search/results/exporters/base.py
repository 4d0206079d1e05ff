"""What an exporter is, and what the formats that people read share: columns, numbers, caption."""

from __future__ import annotations

import functools
import math
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from search.files.messages import counted, printable
from trainables.core.spec import Spec

if TYPE_CHECKING:
    import pyarrow as pa


What = Literal["front", "points", "configurations", "trials", "confirmed", "paper", "claims"]
"""The tables of a study."""


class Exporter(Spec):
    """Base of every exporter. `suffix` is that of its files; `text` is whether a terminal can show it.

    Formats `for_reading` show each point with the parameters that it would be the last measurement for.
    """

    kind: str
    suffix: ClassVar[str]
    text: ClassVar[bool] = True
    for_reading: ClassVar[bool] = False

    @abstractmethod
    def render(self, table: pa.Table, *, what: str, study: str) -> bytes:
        """Return the table as the content of a file; cells may contain any text, which must be escaped."""


@dataclass(frozen=True)
class Readable:
    """A table cut to what a person reads: headings, rows of plain text, and which columns hold numbers.

    The lines of a caption are its paragraphs.
    """

    headings: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str


def readable(table: pa.Table, *, what: str, study: str) -> Readable:
    """Choose and format the columns of a point or trial table. An unknown value is an empty cell.

    Metrics stand before parameters. A parameter or a metric that none of the rows has, as it is of other recipes only,
    has no column.
    """
    rows = table.to_pylist()
    told = (table.schema.metadata or {}).get(CAPTION.encode(), b"").decode()
    if what == REFERENCE:
        return _reference(rows, told)
    if what == "paper":
        return _beside_the_paper(rows, told)
    if what == "claims":
        names = ("claim", "paper", "ours", "verdict")
        judged = ({**row, "verdict": f"{row['verdict']}: {row['why']}".removesuffix(": ")} for row in rows)
        return Readable(names, (False,) * 4, tuple(tuple(row[name] for name in names) for row in judged), told)
    if what in AVERAGED and replicated(rows):
        columns = _mean_columns(rows)
    else:
        columns = {"trials": _trial_columns, "confirmed": _confirmed_columns}.get(what, _point_columns)(rows)
    columns += [
        (field.name.removeprefix(prefix), str(field.type) in ("int64", "double"), _named(field.name))
        for prefix in ("metric.", "param.")
        for field in table.schema
        if field.name.startswith(prefix) and (not rows or any(row[field.name] is not None for row in rows))
    ]
    if what != "trials":
        columns += [(name, False, _named(name)) for name in ("status", "flags") if _worth_showing(rows, name)]
    return _written(columns, rows, one_line(caption(rows, what=what, study=study)))


Column = tuple[str, bool, Any]
"""The heading of a column, whether it holds numbers, and what makes a cell of a row."""


def _written(columns: Iterable[Column], rows: list[dict[str, Any]], caption: str) -> Readable:
    headings, numeric, cells = zip(*columns, strict=True)
    return Readable(headings, numeric, tuple(tuple(cell(row) for cell in cells) for row in rows), caption)


REFERENCE = "reference"
"""What a table of published results is."""
CAPTION = "robustsearch.caption"
"""The key in the metadata of such a table's schema of its caption."""


def _reference(rows: list[dict[str, Any]], caption: str) -> Readable:
    models = len({row["model"] for row in rows}) > 1
    columns: list[Column] = [
        ("method", False, _named("recipe")),
        *([("model", False, _named("model"))] if models else []),
        ("sparsity (%)", True, lambda row: percent_sparsity(row["sparsity"])),
        ("robust accuracy (%)", True, _accuracy("robust_accuracy", 2)),
        ("clean accuracy (%)", True, _accuracy("clean_accuracy", 2)),
    ]
    return _written(columns, rows, caption)


OF_PAPERS = ("paper", "claims")
"""The tables of studies that reproduce a paper."""


def _beside_the_paper(rows: list[dict[str, Any]], caption: str) -> Readable:
    """Return a paper's table with our numbers below the paper's; the names that need less room stand above."""
    sides = [list(dict.fromkeys(row[side] for row in rows)) for side in ("row", "column")]
    left, above = sorted(sides, key=_width_above, reverse=True)
    cells = {(row["row"], row["column"]) if left is sides[0] else (row["column"], row["row"]): row for row in rows}
    most = max((row["seeds"] for row in rows), default=0)
    decimals = _decimals(rows)
    mean = _with_deviation("mean", "sd", decimals)
    kinds = {
        "paper": _with_deviation("paper", "paper_sd", decimals),
        "ours": lambda row: mean(row) + (f" ({row['seeds']})" if 0 < row["seeds"] < most else ""),
        "95 %": _interval_of_mean(decimals),
    }
    lines = []
    for name in left:
        told = [(kind, *(write(cells[name, other]) for other in above)) for kind, write in kinds.items()]
        kept = [line for line in told if line[0] == "ours" or any(line[1:])]
        lines += [("" if number else name, *line) for number, line in enumerate(kept)]
    return Readable(("", "", *above), (False, False, *(True for _ in above)), tuple(lines), caption)


def _width_above(names: list[str]) -> int:
    return sum(max(len(name), _CELL) for name in names)


_CELL = 12
"""About how wide a number with its standard deviation, or an interval, is."""


def _decimals(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many decimals the numbers of each column have: one in percent, else three digits of the largest."""
    found: dict[str, int] = {}
    for name in dict.fromkeys(row["column"] for row in rows):
        of = [row for row in rows if row["column"] == name]
        largest = max((abs(row[side]) for row in of for side in ("paper", "mean") if row[side]), default=1.0)
        found[name] = 1 if any(row["accuracy"] for row in of) else max(0, 2 - math.floor(math.log10(largest)))
    return found


def _figures(row: dict[str, Any], value: float, decimals: Mapping[str, int]) -> str:
    """Write a number of a cell, accuracies in percent."""
    digits = decimals[row["column"]]
    # Adding 0 to what is rounded makes no minus of it.
    return f"{round(100 * value if row['accuracy'] else value, digits) + 0.0:.{digits}f}"


def _with_deviation(mean: str, sd: str, decimals: Mapping[str, int]) -> Any:
    """Return what writes a number with its standard deviation."""

    def cell(row: dict[str, Any]) -> str:
        if row[mean] is None:
            return ""
        spread = "" if row[sd] is None else f" ± {_figures(row, row[sd], decimals)}"
        return f"{_figures(row, row[mean], decimals)}{spread}"

    return cell


def _interval_of_mean(decimals: Mapping[str, int]) -> Any:
    def cell(row: dict[str, Any]) -> str:
        low, high = row["low"], row["high"]
        return "" if low is None else f"[{_figures(row, low, decimals)}, {_figures(row, high, decimals)}]"

    return cell


def _named(name: str) -> Any:
    return lambda row: number(row[name])


def _accuracy(name: str, decimals: int = 1) -> Any:
    def cell(row: dict[str, Any]) -> str:
        value, low, high = (f"{100 * row[name + suffix]:.{decimals}f}" for suffix in ("", "_low", "_high"))
        return f"{value} [{low}, {high}]"

    return cell


AVERAGED = ("front", "configurations")
"""The tables that list the points of replicates once, for their means."""


def replicated(rows: Iterable[dict[str, Any]]) -> bool:
    """Return whether rows are of a study with replicates."""
    return any(row.get("configuration") is not None for row in rows)


def mean_over_seeds(row: Mapping[str, Any], name: str) -> str:
    """Write the mean of an accuracy over seeds in percent, with its standard deviation and the number of seeds."""
    mean, deviation, seeds = 100 * row[f"{name}_mean"], row[f"{name}_sd"], row["seeds"]
    return f"{mean:.1f} ({seeds})" if deviation is None else f"{mean:.1f} ± {100 * deviation:.1f} ({seeds})"


def _mean_columns(rows: list[dict[str, Any]]) -> list[Column]:
    """Return the columns of means over replicates, without the intervals of any one of them."""
    means: list[Column] = [
        (f"{name} accuracy (%)", True, functools.partial(mean_over_seeds, name=f"{name}_accuracy"))
        for name in ("robust", "clean")
    ]
    columns = _point_columns(rows)
    return [*columns[:2], *means, *(column for column in columns[4:] if column[0] != "seed")]


def _point_columns(rows: list[dict[str, Any]]) -> list[Column]:
    columns: list[Column] = [
        ("point", False, _named("point")),
        ("sparsity (%)", True, lambda row: percent_sparsity(row["sparsity"])),
        ("robust accuracy (%)", True, _accuracy("robust_accuracy")),
        ("clean accuracy (%)", True, _accuracy("clean_accuracy")),
        *([("seed", True, _named("seed"))] if replicated(rows) else []),
        *([("epoch", True, _named("epoch"))] if any(row.get("epoch") is not None for row in rows) else []),
        ("nonzero", True, _named("nonzero")),
    ]
    # Of linear layers alone they are the weights that are not 0.
    if any(row["macs_effective"] not in (None, row["nonzero"]) for row in rows):
        columns.append(("macs_effective", True, _named("macs_effective")))
    # What every row shares stands in the caption.
    if len({row["examples"] for row in rows}) > 1:
        columns.append(("n", True, _named("examples")))
    # A kind that is searched is a parameter, with a column of its own.
    kinds = [name for name in ("recipe", "model") if rows and f"param.{name}.kind" not in rows[0]]
    columns += [(name, False, _named(name)) for name in kinds if len({row[name] for row in rows}) > 1]
    return columns


def _confirmed_columns(rows: list[dict[str, Any]]) -> list[Column]:
    columns: list[Column] = [
        ("point", False, _named("point")),
        ("sparsity (%)", True, lambda row: percent_sparsity(row["sparsity"])),
        ("robust accuracy (%)", True, _accuracy("robust_accuracy")),
        ("clean accuracy (%)", True, _accuracy("clean_accuracy")),
        ("estimate (%)", True, lambda row: f"{100 * row['estimate']:.1f}"),
        ("fell by", True, lambda row: f"{100 * row['drop']:.1f}"),
        ("rank", True, rank),
        ("on the front", False, front_change),
        ("p (non-dominated)", True, lambda row: "" if (p := row["p_nondominated"]) is None else f"{p:.2f}"),
        ("nonzero", True, _named("nonzero")),
    ]
    if any(row["seeds"] > 1 for row in rows):
        columns.insert(3, ("over seeds (%)", True, over_seeds))
    return columns


def over_seeds(row: dict[str, Any]) -> str:
    """Write the mean robust accuracy of a confirmed point with its standard deviation, in percent."""
    return "" if row["robust_accuracy_sd"] is None else mean_over_seeds(row, "robust_accuracy")


def rank(row: dict[str, Any]) -> str:
    """Write the rank of a confirmed point by robust accuracy, and the one before where that was another."""
    now, then = row["rank"], row["rank_estimate"]
    return "" if now is None else str(now) if now == then else f"{then} → {now}"


def front_change(row: dict[str, Any]) -> str:
    """Write whether a confirmed point is on the front, and what has changed."""
    if not row["complete"]:
        return "incomplete"
    now, then = row["on_front"], row["on_search_front"]
    return ("yes" if then else "joined") if now else "left" if then else ""


def _trial_columns(rows: list[dict[str, Any]]) -> list[Column]:
    return [
        ("trial", True, _named("trial")),
        *([("seed", True, _named("seed"))] if len({row["seed"] for row in rows}) > 1 else []),
        ("state", False, lambda row: row["state"] or "unfinished"),
        ("points", True, _named("points")),
        ("seconds", True, lambda row: "" if row["seconds"] is None else f"{row['seconds']:.1f}"),
        ("failure", False, _named("failure")),
        ("message", False, lambda row: (row["message"] or "")[:120]),
    ]


def _worth_showing(rows: list[dict[str, Any]], name: str) -> bool:
    return any(row[name] not in (None, [], "ok") for row in rows)


def percent_sparsity(sparsity: float) -> str:
    """Write a sparsity in percent, never rounding up to 100 what still has weights."""
    decimals = next((d for d in (1, 2, 3) if round(100 * sparsity, d) < 100), 4)
    return f"{100 * sparsity:.{decimals}f}"


def number(value: Any) -> str:
    """Write a cell for reading: four significant digits, integers in full, booleans as in YAML, lists joined."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "; ".join(str(item) for item in value)
    return str(value)


def caption(rows: list[dict[str, Any]], *, what: str, study: str) -> str:
    """Return how the numbers were measured: protocol, examples, split, seeds, interval."""
    if what == "trials":
        return f"Trials of the study {study}."
    titles = {"front": "Pareto front", "confirmed": "Confirmed points", "configurations": "Configurations"}
    title = f"{titles.get(what, 'Measured points')} of the study {study}"
    if not rows:
        return f"{title}: no point so far."
    if what == "confirmed":
        return _confirmed_caption(rows, title)
    all_of = functools.partial(_all_of, rows)
    estimates = {"search": "search estimates", "confirmed": "confirmed"}
    tier = ", ".join(estimates.get(name, name) for name in all_of("tier").split(", "))
    if what in AVERAGED and replicated(rows):
        spread = "mean ± standard deviation over training seeds, whose number is in brackets."
    else:
        seeds = counted(len({row["seed"] for row in rows}), "seed")
        spread = f"{seeds}; 95 % Wilson confidence intervals in brackets."
    return (
        f"{title} ({all_of('data')}, {all_of('model')}, {all_of('recipe')}): robust accuracy under {all_of('attack')}, "
        f"{NORMS.get(all_of('norm'), all_of('norm'))}, eps = {all_of('eps_text')}, n = {all_of('examples')} examples; "
        f"{tier} on the {all_of('split')} split; {spread}"
    )


def _all_of(rows: list[dict[str, Any]], name: str) -> str:
    """Return the values that rows have in a column."""
    return ", ".join(str(value) for value in sorted({row[name] for row in rows if row[name] is not None}))


def _confirmed_caption(rows: list[dict[str, Any]], title: str) -> str:
    all_of = functools.partial(_all_of, rows)
    norm, seeds = NORMS.get(all_of("norm"), all_of("norm")), sorted({row["seeds"] for row in rows})
    counts = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    many = f"mean ± standard deviation over {counts} training seeds"
    spread = many if seeds[-1] > 1 else "1 training seed"
    attacks = " or ".join(sorted({row["attack"] for row in rows}))
    return (
        f"{title} ({all_of('data')}, {all_of('model')}, {all_of('recipe')}): robust accuracy on the test split, per "
        f"example under the worst of {attacks}, {norm}, eps = {all_of('eps_text')}, n = {all_of('examples')} examples; "
        f"{spread}; 95 % Wilson confidence intervals in brackets. Estimates are of the search: "
        f"{all_of('estimate_attack')}, n = {all_of('estimate_examples')} validation examples; p by the bootstrap over "
        "examples and seeds."
    )


_BREAKS = re.compile("[\t\n\r\x0b\x0c\x85\u2028\u2029]+")


def one_line(text: str) -> str:
    """Return text on one line, with control characters, those that turn its direction too, as escapes."""
    return printable(_BREAKS.sub(" ", text))


NORMS = {"linf": "l_inf", "l2": "l_2"}
