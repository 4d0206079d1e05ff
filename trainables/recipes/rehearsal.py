"""Trials in small: a few images, one attack step, each kind of phase once. `trainables.worker.rehearsal` runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from trainables.core.keys import canonical_json
from trainables.core.spec import Spec, plain
from trainables.method.phases import Imitate, Measure, Phase, Prune, Rewind, Train
from trainables.recipes.base import Recipe
from trainables.recipes.trial import TrialSpec

SMALL = {
    **dict.fromkeys(("batch", "examples", "select", "validate_on"), 2),
    **dict.fromkeys(("steps", "restarts", "searches", "mask_steps", "every", "rerank"), 1),
    **dict.fromkeys(("rounds", "samples", "eot", "votes", "trials"), 1),
    **dict.fromkeys(("eps_warmup", "natural_epochs", "awp_warmup", "s2ap_warmup"), 0),
}
"""The largest values that fields have in a small trial, by name, in all specs of a trial."""

_SPARSITY = 0.5


class Rehearsal(Recipe):
    """The phases of a small trial."""

    kind: Literal["rehearsal"] = "rehearsal"
    steps: tuple[Phase, ...] = ()

    def phases(self) -> tuple[Phase, ...]:
        return self.steps


def in_small(trial: TrialSpec) -> TrialSpec:
    """Return a trial whose numbers are those of `SMALL`, with its phases in small."""
    # No study has such a recipe, and its phases are sound already.
    recipe = Rehearsal.model_construct(kind="rehearsal", train=trial.recipe.train, steps=small_phases(trial))
    return trial.model_copy(update={"recipe": recipe, "protocol": _small(trial.protocol), "snapshots": ()})


def distinct(trials: Sequence[TrialSpec]) -> Iterator[TrialSpec]:
    """Yield the trials of which some phase, with this network, was in none before, whatever its numbers.

    Those with most phases come first, as they make others unnecessary.
    """
    known: set[tuple[str, str]] = set()
    for trial in sorted(trials, key=lambda trial: -len(small_phases(trial))):
        model = canonical_json(plain(trial.model))
        phases = {(model, _without_numbers(phase)) for phase in small_phases(trial)}
        if phases - known:
            known |= phases
            yield trial


def small_phases(trial: TrialSpec) -> tuple[Phase, ...]:
    """Return the phases of a trial in small, the first of those that differ in numbers alone, and a last measurement.

    Each training has one epoch; one that continues another has the second. What a dense network goes through, a pruned
    one goes through again.
    """
    kept: dict[tuple[bool, str], Phase] = {}
    sparse = False
    for phase in trial.recipe.phases():
        shrunk = _small_phase(phase)
        kept.setdefault((sparse, _without_numbers(shrunk)), shrunk)
        sparse = sparse or isinstance(phase, (Prune, Imitate))
    phases = list(kept.values())
    return (*phases, *([] if phases and isinstance(phases[-1], Measure) else [Measure()]))


def _small_phase(phase: Phase) -> Phase:
    shrunk: Phase = _small(phase)
    if isinstance(phase, Train):
        start = min(phase.start, 1)
        return shrunk.model_copy(update={"start": start, "epochs": start + 1, "until": None, "snapshots": ()})
    if isinstance(phase, Imitate):
        return shrunk.model_copy(update={"epochs": 1})
    if isinstance(phase, Prune) and phase.pruning.pattern is None and phase.rates is None:
        return shrunk.model_copy(update={"sparsity": min(phase.sparsity, _SPARSITY)})
    if isinstance(phase, Rewind) and isinstance(phase.to, int):
        return shrunk.model_copy(update={"to": "init"})
    return shrunk


def _small(spec: Any) -> Any:
    """Return a spec, or a collection of specs, with the numbers of `SMALL` in it and in all specs within."""
    if isinstance(spec, tuple):
        return tuple(_small(item) for item in spec)
    if isinstance(spec, dict):
        return {key: _small(item) for key, item in spec.items()}
    if not isinstance(spec, Spec):
        return spec
    fields = {name: _small(getattr(spec, name)) for name in type(spec).model_fields}
    capped = {name: min(value, SMALL[name]) for name, value in fields.items() if name in SMALL and _number(value)}
    return spec.model_copy(update={**fields, **capped})


def _without_numbers(spec: Spec) -> str:
    def blank(data: Any) -> Any:
        if isinstance(data, dict):
            return {key: blank(value) for key, value in data.items() if key != "stands_for"}
        if isinstance(data, list):
            return [blank(item) for item in data]
        return 0 if _number(data) else data

    return canonical_json(blank(plain(spec)))


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
