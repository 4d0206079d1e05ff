"""What `--allow-change` may change in a study after its first trials, which must remain trials of it."""

from __future__ import annotations

from collections.abc import Iterator

from search.space.parameters import Categorical, FloatRange, IntRange, Parameter, Params
from search.store.records import Records
from search.study.changes import changes
from search.study.inverse import completed
from search.study.spec import StudySpec
from search.study.trials import rewind_epochs
from trainables.core.errors import SpecError

ALLOWED = ("space", "sampler", "constraints", "target", "seeds")
"""What may change; the space and the seeds of replicates may only grow."""


def effects(records: Records, new: StudySpec) -> list[str]:
    """Return what the changes of a study mean, a line each.

    Raises:
        SpecError: its points and new ones could not be compared, or its trials would be outside the space.
    """
    if refused := _refused(records, new):
        listed = "\n".join(f"  {line}" for line in refused)
        raise SpecError(
            f"{records.storage.location} cannot be changed in this way, even with --allow-change:\n{listed}\n"
            "its points and new ones could not be compared; launch under another --name"
        )
    return [*_effects(records.spec, new, _params(records)), *_too_few_trials(records, new)]


def may_be_allowed(records: Records, new: StudySpec) -> bool:
    """Return whether everything that differs may be changed on purpose."""
    return not _refused(records, new)


def _refused(records: Records, new: StudySpec) -> list[str]:
    """Return what may not be changed, a line each."""
    old = records.spec
    kept = {name: getattr(new, name) for name in ALLOWED}
    refused = [
        *changes(old.model_copy(update=kept), new),
        *(line for path in old.space for line in _shrunk(path, old.space[path], new.space.get(path))),
        *_other_seeds(old, new),
    ]
    return refused or list(_left_behind(new, _params(records)))


def _params(records: Records) -> dict[int, Params]:
    return {record.number: record.params for record, _ in records.trials()}


def _effects(old: StudySpec, new: StudySpec, trials: dict[int, Params]) -> Iterator[str]:
    since = f"from trial {len(trials)} on"
    for path, parameter in new.space.items():
        before = old.space.get(path)
        if before is None:
            had = {repr(all_[path]) for params in trials.values() if path in (all_ := completed(new, params) or {})}
            earlier = f"; the trials so far have {', '.join(sorted(had))}" if had else ""
            yield f"space.{path}: is searched {since}, {parameter.values_text()}{earlier}"
        elif before != parameter:
            yield f"space.{path}: was {before.values_text()}, is {parameter.values_text()} {since}"
    if list(old.space) != [path for path in new.space if path in old.space]:
        yield f"space: its parameters are drawn in another order {since}"
    if added := set(rewind_epochs(new.space)) - set(rewind_epochs(old.space)):
        epochs = ", ".join(map(str, sorted(added)))
        yield f"space.recipe.rewind: dense trainings are repeated where a trial rewinds to epoch {epochs}"
    if old.sampler != new.sampler:
        yield f"sampler: was {old.sampler.kind}, is {new.sampler.kind} {since}, which sees all that was measured"
    if old.constraints != new.constraints:
        yield "constraints: all points are judged by the new ones, so the front may change"
    if more := [seed for seed in new.seeds if seed not in old.seeds]:
        listed = ", ".join(map(str, more))
        yield f"seeds: every configuration is run with {listed} too, and is compared again once those have ended"
    if old.target != new.target:
        yield f"target: applies {since}; no point changes"


def _too_few_trials(records: Records, new: StudySpec) -> Iterator[str]:
    """Yield that the budget leaves configurations without trials of the new seeds: none of those is compared."""
    configurations = {record.configuration for record, _ in records.trials()}
    needed = len(configurations) * len(new.seeds)
    if set(new.seeds) - set(records.spec.seeds) and needed > new.planned:
        yield f"seeds: this takes {needed} trials, and the budget is {new.planned}; --trials {needed} runs them"


def _other_seeds(old: StudySpec, new: StudySpec) -> Iterator[str]:
    """Yield where trials would not be replicates of the new study."""
    if bool(old.seeds) != bool(new.seeds):
        kind = "" if old.seeds else " not"
        yield f"seeds: were {list(old.seeds)}, are {list(new.seeds)}: the trials so far are{kind} replicates"
    elif left := set(old.seeds) - set(new.seeds):
        yield f"seeds: {', '.join(map(str, sorted(left)))} left out, but trials have them: seeds can only be added"


def _shrunk(path: str, old: Parameter, new: Parameter | None) -> Iterator[str]:
    """Yield where a parameter no longer has all the values it had."""
    if new is None:
        yield f"space.{path}: was removed, but trials differ in it"
    elif not _covers(new, old):
        yield f"space.{path}: was {old.values_text()}, is {new.values_text()}: a space can only grow"


def _covers(new: Parameter, old: Parameter) -> bool:
    """Return whether a parameter can have every value that another can."""
    if isinstance(old, Categorical):
        return all(new.contains(choice) for choice in old.choices)
    assert isinstance(old, (FloatRange, IntRange))
    if not (new.contains(old.low) and new.contains(old.high)):
        return False
    if isinstance(new, FloatRange):
        if new.step is None:
            return isinstance(old, FloatRange)
        return isinstance(old, FloatRange) and old.step is not None and new.contains(old.low + old.step)
    return isinstance(new, IntRange) and isinstance(old, IntRange) and (old.step or 1) % (new.step or 1) == 0


def _left_behind(new: StudySpec, trials: dict[int, Params]) -> Iterator[str]:
    """Yield which trials are outside the new space."""
    outside = [number for number, params in trials.items() if completed(new, params) is None]
    if outside:
        listed = ", ".join(map(str, outside[:10])) + (", ..." if len(outside) > 10 else "")
        yield f"space: trials {listed} are outside it; a new parameter must include the value that they had"
