"""Whether studies can be compared: the same images, measured in the same way, judged by the same objectives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search.results.compare.groups import name_of
from search.results.exporters.base import NORMS
from search.results.study import Study
from search.store import confirmations
from search.store.default_storage import arguments
from trainables.core.errors import SpecError
from trainables.core.spec import plain

_SPLIT = ("validation", "split_seed", "select")
_MEASURING = ("attack", "noise", "eot", "votes")


def check(studies: Sequence[Study], *, confirmed: bool) -> None:
    """Refuse studies that cannot be compared.

    Raises:
        SpecError: names every difference, or what is not confirmed yet.
    """
    if confirmed and (missing := [study for study in studies if not study.confirmed_front()]):
        name = arguments(missing[0].records.storage)
        raise SpecError(
            f"{', '.join(map(name_of, missing))}: no point is confirmed with all attacks; "
            f"`robustsearch confirm {name}` measures them"
        )
    facts = {name_of(study): dict(_facts(study, confirmed)) for study in studies}
    if differing := list(_differing(facts)):
        listed = "\n".join(f"  {line}" for line in differing)
        raise SpecError(f"these studies cannot be compared, as they differ in:\n{listed}")


def notes(studies: Sequence[Study], *, confirmed: bool) -> list[str]:
    """Return what differs and does not prevent a comparison, but what a reader has to know."""
    described = {
        "model": [plain(study.spec.model) for study in studies],
        "constraints": [dict(study.spec.constraints) for study in studies],
        "examples": [] if confirmed else [study.spec.protocol.examples for study in studies],
    }
    said = {
        "model": "the networks differ: sparsity is a share of each network's own weights",
        "constraints": "the constraints differ: only points that meet those of all studies count",
        "examples": "the numbers of examples differ: intervals of differences are those of independent examples",
    }
    return [said[name] for name, each in described.items() if any(one != each[0] for one in each)]


def measured(studies: Sequence[Study], *, confirmed: bool) -> str:
    """Return in one sentence how the numbers of comparable studies were measured."""
    rows = [row for study in studies for row in (study.confirmed() if confirmed else study.points())]

    def all_of(name: str) -> str:
        return ", ".join(str(value) for value in sorted({getattr(row, name) for row in rows}))

    if not rows:
        return "No point has been measured yet."
    kind = "Confirmed" if confirmed else "Search estimates"
    norm = NORMS.get(all_of("norm"), all_of("norm"))
    return (
        f"{kind} on the {all_of('split')} split: robust accuracy under {all_of('attack')}, {norm}, "
        f"eps = {all_of('eps_text')}, n = {all_of('examples')} examples."
    )


def _facts(study: Study, confirmed: bool) -> Iterator[tuple[str, Any]]:
    spec = study.spec
    yield "objectives", dict(spec.objectives)
    yield "the training files (fingerprint)", study.records.fingerprint.data_hash[:12]
    data = plain(spec.data)
    yield from ((f"data.{name}", data.get(name)) for name in _SPLIT)
    yield "protocol.eps", float(spec.protocol.eps)
    yield "the norm", spec.protocol.attack.norm
    if confirmed:
        yield from _confirmed_facts(study)
    else:
        protocol = plain(spec.protocol)
        yield from ((f"protocol.{name}", protocol.get(name)) for name in _MEASURING)


def _confirmed_facts(study: Study) -> Iterator[tuple[str, Any]]:
    rows = study.confirmed()
    limits = {row.limit for row in rows}
    results = confirmations.read(study.records.storage).found
    yield "the confirming attacks", sorted({row.attack for row in rows if row.complete})
    yield "the number of test examples", sorted({row.examples for row in rows})
    yield "the test examples (hash)", sorted({each.split_sha256[:12] for each in results if each.limit in limits})


def _differing(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    names = dict.fromkeys(name for each in facts.values() for name in each)
    for name in names:
        values = {study: each.get(name) for study, each in facts.items()}
        first = next(iter(values.values()))
        if any(value != first for value in values.values()):
            yield f"{name}: {'; '.join(f'{_text(value)} in {where}' for where, value in _by_value(values))}"


def _by_value(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each different value once, with the studies that have it."""
    groups: list[tuple[Any, list[str]]] = []
    for study, value in values.items():
        same = next((names for known, names in groups if known == value), None)
        if same is None:
            groups.append((value, [study]))
        else:
            same.append(study)
    return ((", ".join(names), value) for value, names in groups)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {item}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return str(value)
