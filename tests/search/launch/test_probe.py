from __future__ import annotations

from typing import Literal

import pytest

from search.launch.probe import networks
from search.study.space_check import corner_trials
from tests.search.studies import study
from trainables.pruning import PRUNERS
from trainables.pruning.scores import Magnitude


def test_each_network_is_given_to_the_pruners_that_cut_it() -> None:
    spec = study(
        "space:\n  model.kind: {kind: categorical, choices: [lenet300, resnet20]}\n"
        "  recipe.prune.pruner.kind: {kind: categorical, choices: [slimming], when: {model.kind: resnet20}}\n"
    )
    probed = networks(corner_trials(spec.space, spec.trial))
    found = {model["kind"]: [pruner["kind"] for pruner in pruners] for model, pruners in probed}
    assert found == {"lenet300": ["magnitude"], "resnet20": ["slimming"]}


def test_pruners_may_have_fields_of_any_type(monkeypatch: pytest.MonkeyPatch) -> None:
    class Boosted(Magnitude):
        kind: Literal["boosted"] = "boosted"  # type: ignore[assignment]
        boosts: dict[str, float] = {}

    monkeypatch.setattr(PRUNERS, "_table", dict(PRUNERS._table))
    PRUNERS.register("boosted", Boosted)
    spec = study("  prune: {pruner: {kind: boosted, boosts: {fc: 2.0}}}\n")
    ((_, pruners),) = networks(corner_trials(spec.space, spec.trial))
    assert pruners == [{"kind": "boosted", "boosts": {"fc": 2.0}}]
