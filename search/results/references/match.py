"""Which rows of a reference a study may be compared with, and what must be said beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.results.exporters.base import NORMS
from search.results.references.base import Reference, Row
from trainables.core.errors import RobustsearchError
from trainables.recipes.trial import TrialSpec

if TYPE_CHECKING:
    from search.results.study import Study
    from trainables.store.records import TrialRecord

_STRUCTURES = {"unstructured": "single weights", "filter": "whole filters"}


@dataclass(frozen=True)
class Match:
    """The rows that match a study, what must be said beside them, or the `reason` why none does."""

    reference: Reference
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]
    reason: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        known = self.reference
        return {
            "name": known.name,
            "title": known.title,
            "citation": known.citation,
            "url": known.url,
            "attack": known.attack,
            "norm": known.norm,
            "eps": known.eps,
            "split": known.split,
            "examples": known.examples,
            "remarks": list(self.remarks),
            "reason": self.reason,
            "rows": [vars(row) for row in self.rows],
        }


def match(reference: Reference, study: Study) -> Match:
    """Return the rows of a reference with a study's data set, architectures, structures of pruning and threat model."""
    trials = [trial for trial, _ in study.records.trials()]
    models = {str(trial.spec["model"].get("kind")) for trial in trials} or {study.spec.model.kind}
    structures = {structure for trial in trials for structure in structures_of(trial)}
    rows = tuple(row for row in reference.rows if row.data == study.spec.data.kind and row.model in models)
    reason = _other_data(reference, study) or _other_threat(reference, study)
    if reason is None and not rows:
        reason = f"the study's network is {_listed(models)}; the {reference.title} has {_all(reference, 'model')}"
    fitting = tuple(row for row in rows if row.structure in structures)
    if reason is None and not fitting:
        pruned = _listed(_STRUCTURES.get(each, each) for each in structures) or "nothing so far"
        reason = f"the study prunes {pruned}; the {reference.title} has {_all(reference, 'structure')}"
    if reason is not None:
        return Match(reference, (), (), f"no row of {reference.name} is shown: {reason}")
    return Match(reference, fitting, (*_beside(reference, study), *reference.remarks))


def structures_of(trial: TrialRecord) -> set[str]:
    """Return the structures by which a trial prunes: `unstructured`, `filter`, or a pattern such as `2:4`."""
    try:
        phases = TrialSpec.model_validate(trial.spec).recipe.phases()
    except (RobustsearchError, ValueError, AttributeError, NotImplementedError):  # The recipe is a plug-in's.
        return set(_values(trial.spec["recipe"], "structure")) or {"unstructured"}
    return {
        getattr(pruning, "structure", "unstructured")
        for phase in phases
        if (pruning := getattr(phase, "pruning", None)) is not None
    } or {"unstructured"}


def _values(described: Any, name: str) -> Iterable[str]:
    if isinstance(described, Mapping):
        for key, value in described.items():
            yield from [value] if key == name and isinstance(value, str) else _values(value, name)
    elif isinstance(described, list):
        for value in described:
            yield from _values(value, name)


def _other_data(reference: Reference, study: Study) -> str | None:
    data = study.spec.data
    if data.kind not in {row.data for row in reference.rows}:
        return f"the study is on {data.kind}; the {reference.title} has {_all(reference, 'data')}"
    if data.select:
        return f"the study uses {len(data.select)} classes of {data.kind}; the {reference.title} has all"
    return None


def _other_threat(reference: Reference, study: Study) -> str | None:
    protocol = study.spec.protocol
    if protocol.attack.norm == reference.norm and abs(float(protocol.eps) - reference.eps) <= reference.tolerance:
        return None
    norms = [NORMS.get(norm, norm) for norm in (protocol.attack.norm, reference.norm)]
    return (
        f"the study's threat model is {norms[0]} with eps = {protocol.eps.text}; that of the {reference.title} is "
        f"{norms[1]} with eps = {reference.eps_text}"
    )


def _beside(reference: Reference, study: Study) -> Iterable[str]:
    protocol, limit = study.spec.protocol, study.spec.data.limit
    if (own := float(protocol.eps)) != reference.eps:
        favoured = "the rows" if own > reference.eps else "the study"
        yield f"eps is {reference.eps_text} there and {protocol.eps.text} here, which favours {favoured} a little"
    yield (
        f"only confirmed points compare: their numbers are from the {reference.split} split, as those of the rows; "
        "the search's are estimates on the validation split under a weaker attack"
    )
    if limit is not None:
        yield f"the study trains on {limit} images only (data.limit)"


def _all(reference: Reference, field: str) -> str:
    values = dict.fromkeys(getattr(row, field) for row in reference.rows)
    return _listed({**reference.titles, **_STRUCTURES}.get(value, value) for value in values)


def _listed(values: Iterable[str]) -> str:
    ordered = sorted(values)
    return " and ".join([", ".join(ordered[:-1]), ordered[-1]] if len(ordered) > 1 else ordered)
