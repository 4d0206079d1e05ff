"""Study texts for the tests of the study file's side."""

from __future__ import annotations

from search.files.yaml import parse
from search.study.file import from_document
from search.study.spec import StudySpec

BASE = """\
name: a
data: digits
model: lenet300
recipe:
  kind: imp
"""


def study(more: str = "", *overrides: str) -> StudySpec:
    """Read `BASE` followed by more lines, which begin in the recipe where they are indented."""
    return from_document(parse(BASE + more, "my.yaml"), overrides)
