from __future__ import annotations

import pytest

from search.study.changes import changes
from tests.search.studies import SPACE, study

CHANGES = {
    "space": ("space.recipe.sparsity.high=0.9", "space.recipe.sparsity"),
    "eps": ("protocol.eps=4/255", "protocol.eps"),
    "data": ("data.validation=100", "data.validation"),
    "seed": ("seed=1", "seed"),
    "sampler": ("sampler=nsga2", "sampler.kind"),
    "recipe": ("recipe.epochs=31", "recipe.epochs"),
    "objectives": ("objectives={robust_accuracy: maximise}", "objectives.sparsity"),
    "order": ("objectives={sparsity: maximise, robust_accuracy: maximise}", "objectives"),
    "constraints": ("constraints={clean_accuracy: '>= 0.5'}", "constraints"),
    "target": ("target={robust_accuracy: '>= 0.5'}", "target"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_makes_another_study_is_named(case: str) -> None:
    override, name = CHANGES[case]
    found = changes(study(SPACE), study(SPACE, override))
    assert any(line.startswith(f"{name}") for line in found), found


def test_order_of_the_space_makes_another_study() -> None:
    lines = SPACE.splitlines()
    turned = "\n".join([lines[0], lines[2], lines[1], *lines[3:], ""])
    assert {line.split(":")[0] for line in changes(study(SPACE), study(turned))} == {
        "space.recipe.sparsity",
        "space.recipe.train.eps",
    }


@pytest.mark.parametrize(
    "override",
    [
        "budget.trials=99",
        "enqueue=[]",
        "description=more",
        "max_failures=5",
        "abort_after=9",
        "protocol.eps=8.0/255.0",
        "data.root=/x",
    ],
)
def test_what_may_change_makes_no_other_study(override: str) -> None:
    assert changes(study(SPACE), study(SPACE, override)) == []
