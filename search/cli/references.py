"""The option of commands that show published results beside a study's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from search.files.messages import say

if TYPE_CHECKING:
    from search.results.references.match import Match
    from search.results.study import Study

REFERENCE_OPTION = click.option(
    "--reference", metavar="REFERENCE", help="Published results to add if they match the study: piras2024."
)


def matched(study: Study, reference: str | None) -> Match | None:
    """Return the rows of a reference for a study; say so where none matches."""
    if reference is None:
        return None
    from search.results import references
    from search.results.references.match import match

    found = match(references.reference(reference), study)
    if found.reason is not None:
        say(found.reason)
    return found
