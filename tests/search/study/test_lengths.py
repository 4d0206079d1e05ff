"""What becomes of lengths in a shorter study."""

from __future__ import annotations

from search.study.lengths import shortened


def test_steps_become_fewer_and_shares_of_a_training_stay() -> None:
    recipe = {"epochs": 20, "every": 0.01, "dynamics": {"every": 900}, "imitation": {"rerank": 0.05}}
    space = {"recipe.every": {"choices": [100, 0.02]}, "recipe.finetune_eps_warmup": {"low": 2.0, "high": 4.0}}
    found = shortened({"recipe": recipe, "space": space}, 0.1)
    assert found["recipe"] == {"epochs": 2, "every": 0.01, "dynamics": {"every": 90}, "imitation": {"rerank": 0.05}}
    assert found["space"]["recipe.every"] == {"choices": [10, 0.02]}
    assert found["space"]["recipe.finetune_eps_warmup"] == {"low": 0.2, "high": 0.4}


def test_a_beginning_of_a_training_may_become_nothing_and_the_training_not() -> None:
    recipe = {"epochs": 160, "rewind": 2, "train": {"natural_epochs": 5}}
    space = {"recipe.rewind": {"low": 1, "high": 40}}
    found = shortened({"recipe": recipe, "space": space}, 0.0125)
    assert found["recipe"] == {"epochs": 2, "rewind": 0, "train": {"natural_epochs": 0}}
    assert found["space"]["recipe.rewind"] == {"low": 0, "high": 1}
    assert shortened({"recipe": recipe}, 0.1)["recipe"]["train"] == {"natural_epochs": 1}
    assert shortened({"recipe": recipe}, 0.001)["recipe"]["epochs"] == 1
