"""Recipes: adversarial pruning methods as frozen specs that expand to phases."""

from __future__ import annotations

from trainables.core.registry import Registry
from trainables.recipes.base import Recipe
from trainables.recipes.cosentino2019 import Cosentino2019
from trainables.recipes.filter import Filter
from trainables.recipes.flying_bird import FlyingBird
from trainables.recipes.gradual import Gradual
from trainables.recipes.guo2018 import Guo2018
from trainables.recipes.harp import Harp
from trainables.recipes.hydra import Hydra
from trainables.recipes.imp import Imp
from trainables.recipes.mad import Mad
from trainables.recipes.radmm import Radmm
from trainables.recipes.rakin2019 import Rakin2019
from trainables.recipes.shi2022 import Shi2022
from trainables.recipes.three_stage import ThreeStage
from trainables.recipes.twin_rep import TwinRep
from trainables.recipes.wang2020 import Wang2020

RECIPES: Registry[Recipe] = Registry(
    "recipe",
    Recipe,
    {
        "three_stage": ThreeStage,
        "imp": Imp,
        "cosentino2019": Cosentino2019,
        "shi2022": Shi2022,
        "wang2020": Wang2020,
        "rakin2019": Rakin2019,
        "hydra": Hydra,
        "harp": Harp,
        "radmm": Radmm,
        "twin_rep": TwinRep,
        "mad": Mad,
        "guo2018": Guo2018,
        "gradual": Gradual,
        "flying_bird": FlyingBird,
        "filter": Filter,
    },
)
