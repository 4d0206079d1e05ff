"""The networks of a study, built without its data where their shape is known, for `robustsearch validate`."""

from __future__ import annotations

from collections.abc import Iterator

from search.study.space_check import corner_trials
from search.study.spec import StudySpec
from trainables.core.errors import RobustsearchError, SpecError
from trainables.core.keys import canonical_json
from trainables.core.spec import plain
from trainables.models.base import Model
from trainables.models.share import Share


def described(spec: StudySpec) -> tuple[str, ...]:
    """Return the prunable share of each network's parameters, a line each, or why it is not known before a launch.

    Raises:
        SpecError: a network cannot be built, or no trial could train and prune it.
    """
    if spec.data.shape is None or spec.data.classes is None:
        return (f"networks: built by the launch, as the shape of {spec.data.kind} images is known once they are read",)
    try:
        import torch  # noqa: F401
    except ImportError:
        return ("networks: built by the launch, as torch is not installed here",)
    classes = len(spec.data.select) or spec.data.classes
    return tuple(str(_share(model, spec.data.shape, classes, spec.seed)) for model in _models(spec))


def _models(spec: StudySpec) -> Iterator[Model]:
    seen: set[str] = set()
    for trial in corner_trials(spec.space, spec.trial):
        if (text := canonical_json(plain(trial.model))) not in seen:
            seen.add(text)
            yield trial.model


def _share(model: Model, shape: tuple[int, int, int], classes: int, seed: int) -> Share:
    from trainables.models.checks import check_trainable, title
    from trainables.models.normalised import outline

    try:
        network = outline(model, shape, classes, seed)
        check_trainable(model, network)
        return Share.of(title(model), network)
    except RobustsearchError:
        raise
    except (Exception, SystemExit) as error:
        raise SpecError(f"the network {title(model)} cannot be built: {type(error).__name__}: {error}") from error
