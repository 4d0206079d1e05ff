"""The caption of a paper's table: what it is, how it was measured, and how the study differs from the paper's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from search.files.messages import counted
from search.results.paper.base import Study, reproduces
from search.study import reproduction
from search.study.spec import Reproduces, StudySpec
from trainables.core.spec import plain

if TYPE_CHECKING:
    from trainables.store.records import TrialRecord


def caption(study: Study) -> str:
    """Return what the table is, how it was measured, and how the study differs from the paper's, in paragraphs.

    Raises:
        SpecError: as `filled`.
    """
    spec = study.spec
    table = reproduction.table(reproduces(spec))
    seeds = len({record.seed for record in _complete(study)}) or len(spec.replicates)
    published = len(reproduction.study(reproduces(spec)).replicates)
    replicates = f"{counted(seeds, 'seed')}{'' if seeds == published else f' of {published}'}"
    spread = "mean, standard deviation over seeds, and 95 % interval of the mean"
    images = f"{spec.protocol.examples or spec.data.validation} validation images"
    parts = [
        title(spec),
        f"Paper: {table.evidence}. Ours: {f'{spread}; ' if seeds > 1 else ''}{replicates}, {images}.",
        *warnings(study),
    ]
    if table.differs:
        parts.append(f"Known to differ from the paper: {'; '.join(table.differs)}.")
    if changed := _changed(spec):
        parts.append(f"Set otherwise: {'; '.join(changed)}.")
    return "\n".join(parts)


def title(spec: StudySpec) -> str:
    """Return the names of the paper and of its table."""
    of = reproduces(spec)
    return f"{reproduction.paper(of.paper).title}: {reproduction.table(of).title}."


def warnings(study: Study) -> list[str]:
    """Return what nobody may overlook: that trainings were shortened, or trials are missing."""
    spec = study.spec
    of = reproduces(spec)
    found = []
    if of.scale != 1:
        whole = reproduction.study(Reproduces(paper=of.paper, table=of.table)).recipe.epochs
        first = f"the first training has {spec.recipe.epochs} of {whole} epochs"
        found.append(f"SHORTENED: all that counts epochs or steps is {of.scale:g} times as long; {first}.")
    if (left := spec.planned - len(_complete(study))) > 0:
        found.append(f"INCOMPLETE: {left} of {spec.planned} trials are not complete.")
    return found


def _complete(study: Study) -> list[TrialRecord]:
    return [record for record, outcome in study.records.trials() if outcome is not None and outcome.state == "complete"]


def _changed(spec: StudySpec) -> list[str]:
    """Return what of a study is not as the paper's file has it, besides its lengths and seeds."""
    published = reproduction.study(reproduces(spec))
    return list(_differences(plain(published, hashed=True), plain(spec, hashed=True)))


_LAUNCHING = ("name", "budget", "description", "stage_storage", "timeouts", "max_failures", "abort_after")
_TOLD_ELSEWHERE = ("reproduces", "seeds")
_EXECUTION = ("data.root", "data.download", "shrink", "sparse")
_NOT_TOLD = {*_LAUNCHING, *_TOLD_ELSEWHERE, *_EXECUTION}
"""Keys whose differences a caption does not list."""


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield what of nested plain data is another, with its dotted path; specs in lists are named by their kind."""
    if path in _NOT_TOLD or before == after:
        return
    old, new = _parts(before), _parts(after)
    if old is None or new is None:
        yield f"{path} is {_shown(after)} instead of {_shown(before)}"
        return
    for name in dict.fromkeys((*old, *new)):
        inner = f"{path}.{name}" if path else name
        if name not in new:
            yield f"{inner} is left out"
        elif name not in old:
            yield f"{inner} is {_shown(new[name])}"
        else:
            yield from _differences(old[name], new[name], inner)


def _parts(value: Any) -> Mapping[str, Any] | None:
    """Return the named parts of a mapping or of a list of specs; None of all else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and value and all(isinstance(each, Mapping) and "kind" in each for each in value):
        named = {each.get("name") or each["kind"]: each for each in value}
        return named if len(named) == len(value) else None
    return None


def _shown(value: Any) -> str:
    """Return a value as a caption has it, long ones by their kinds."""
    if isinstance(value, Mapping):
        return str(value.get("name") or value.get("kind", "given"))
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
