"""A registered kind has what runs it: a class without its family's methods is refused before any trial starts."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from search.cluster.spec import CLUSTERS
from search.early_stopping.registry import SCHEDULERS
from search.results.exporters import EXPORTERS, TRACKERS
from search.samplers.registry import SAMPLERS
from search.space.parameters import PARAMETERS
from trainables.attacks import ATTACKS
from trainables.core.registry import Registry
from trainables.data import DATASETS
from trainables.losses import LOSSES
from trainables.mask_updates import MASK_UPDATES
from trainables.method.schedules import SCHEDULES
from trainables.metrics import METRICS
from trainables.models import MODELS
from trainables.optimisers import OPTIMISERS
from trainables.pruning import LAYERS, PRUNERS
from trainables.recipes import RECIPES
from trainables.regularisers import REGULARISERS
from trainables.reparametrisations import REPARAMETRISATIONS

METHODS: list[tuple[Registry[Any], set[str]]] = [
    (ATTACKS, {"perturb"}),
    (DATASETS, {"read_training"}),
    (LAYERS, {"shares"}),
    (LOSSES, {"terms"}),
    (MASK_UPDATES, {"masks"}),
    (METRICS, {"values"}),
    (MODELS, {"network"}),
    (OPTIMISERS, {"build"}),
    (PRUNERS, {"scores"}),
    (RECIPES, {"phases"}),
    (REGULARISERS, {"penalty"}),
    (REPARAMETRISATIONS, {"build"}),
    (SCHEDULES, {"after_warmup"}),
    (CLUSTERS, {"connect", "opening", "where"}),
    (EXPORTERS, {"render"}),
    (TRACKERS, {"write"}),
    (PARAMETERS, {"contains", "values_text", "extremes", "spaced"}),
    (SAMPLERS, {"suggest"}),
    (SCHEDULERS, {"build"}),
]


@pytest.mark.parametrize(("registry", "methods"), METHODS, ids=lambda value: getattr(value, "family", ""))
def test_a_kind_that_lacks_its_method_is_refused(registry: Registry[Any], methods: set[str]) -> None:
    fields = {"__annotations__": {"kind": Literal["hollow"]}, "kind": "hollow", "__module__": __name__}
    hollow = type("Hollow", (registry.base,), fields)
    assert registry.base.__abstractmethods__ == methods
    with pytest.raises(ValueError, match=f"{registry.family} 'hollow': Hollow does not define `{min(methods)}`"):
        registry.register("hollow", hollow)
    assert "hollow" not in registry


@pytest.mark.parametrize("registry", [registry for registry, _ in METHODS], ids=lambda registry: registry.family)
def test_every_kind_is_complete_and_of_its_family(registry: Registry[Any]) -> None:
    for kind, implementation in registry.items():
        assert issubclass(implementation, registry.base), kind
        assert not implementation.__abstractmethods__, kind
