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


SPACE = """\
space:
  recipe.sparsity: {kind: float, low: 0.3, high: 0.95}
  recipe.train.eps: {kind: categorical, choices: [0, 8/255, 0.1]}
  recipe.rewind: {kind: categorical, choices: [init, 3, dense_trained]}
  recipe.train.regularisers.l1: {kind: float, low: 1e-7, high: 1e-4, log: true}
  recipe.train.loss: {kind: categorical, choices: [madry, trades]}
  recipe.train.loss.beta: {kind: float, low: 1, high: 6, when: {recipe.train.loss: trades}}
  model.normalise: {kind: categorical, choices: [true, false]}
"""
