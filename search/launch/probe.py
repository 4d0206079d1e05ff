"""What a launch asks a worker before the first trial, and what it refuses by the answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from search.cluster.base import ProbeRequest
from search.study.spec import StudySpec
from trainables.core.errors import SpecError
from trainables.core.keys import canonical_json
from trainables.core.spec import plain
from trainables.method.phases import Prune
from trainables.models.share import Share
from trainables.recipes.rehearsal import distinct
from trainables.recipes.trial import TrialSpec
from trainables.store.storage import Address

LEAST_SILENCE = 10.0
"""The seconds in which a probe may show no progress, whatever a trial may: it imports parts of torch."""


def request(spec: StudySpec, trials: Iterable[TrialSpec], storage: Address) -> ProbeRequest:
    """Return what a worker checks for a study whose corner trials are `trials`."""
    corners, silence = list(trials), spec.timeouts.silence
    return ProbeRequest(
        data=plain(spec.data),
        networks=networks(corners),
        storage=storage,
        plugins=spec.plugins,
        precision=spec.recipe.train.precision,
        trials=[plain(trial) for trial in distinct(corners)],
        silence=None if silence is None else max(silence, LEAST_SILENCE),
    )


def networks(trials: Iterable[TrialSpec]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Return the models of the trials, each with the pruners that cut it, as plain data."""
    found: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {}
    for trial in trials:
        model = plain(trial.model)
        pruners = found.setdefault(canonical_json(model), (model, {}))[1]
        for phase in trial.recipe.phases():
            if isinstance(phase, Prune):
                pruner = plain(phase.pruning.pruner)
                pruners[canonical_json(pruner)] = pruner
    return [(model, list(pruners.values())) for model, pruners in found.values()]


def shares(found: dict[str, Any]) -> list[str]:
    """Return in a line for each network what share of its parameters is prunable."""
    return [str(Share.from_plain(share)) for share in found["networks"]]


def check_images(trials: Iterable[TrialSpec], training: int) -> None:
    """Refuse a study whose trials want more images than there are.

    Raises:
        SpecError: names the field.
    """
    selected = max(trial.recipe.train.select for trial in trials)
    if selected >= training:
        raise SpecError(f"recipe.train.select holds back {selected} of {training} training images, which leaves none")
