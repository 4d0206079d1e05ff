"""Checks that a study asks for no more images than it has: what exceeds them would be fewer without a word."""

from __future__ import annotations

from search.study.space_check import Problem
from search.study.spec import StudySpec
from trainables.core.spec import Spec


def wrong_images(study: StudySpec) -> list[Problem]:
    """Return which numbers of images exceed those that they are of, each with what is wrong.

    A default is as many as there are, at most: it is never too large.
    """
    held, examples = study.data.validation, study.protocol.examples
    measured = min(examples or held, held)
    found: list[Problem] = []
    if (examples or 0) > held:
        found.append((("protocol", "examples"), f"{examples}, but data.validation holds back {held} images"))
    parts: list[tuple[tuple[str | int, ...], Spec | None]] = [
        *((("protocol", "metrics", index), metric) for index, metric in enumerate(study.protocol.metrics)),
        (("screening",), study.screening),
        (("early_stopping",), study.early_stopping),
    ]
    for place, part in parts:
        number = _chosen(part, "examples")
        if number > measured:
            found.append(((*place, "examples"), f"{number}, but the protocol measures {measured} images"))
    if (number := _chosen(study.recipe.train, "validate_on")) > held:
        found.append((("recipe", "train", "validate_on"), f"{number}, but data.validation holds back {held} images"))
    return found


def _chosen(spec: Spec | None, field: str) -> int:
    """Return a number of images that somebody chose; 0 for a default, or a spec without such a field."""
    if spec is None or (known := type(spec).model_fields.get(field)) is None:
        return 0
    number = getattr(spec, field)
    return number if isinstance(number, int) and number != known.default else 0
