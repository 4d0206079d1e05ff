from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainables.core.spec import Eps, plain
from trainables.method.phases import Imitate, Measure, Prune, Rewind, Train
from trainables.method.schedules import Constant, Cosine, Step
from trainables.recipes import RECIPES
from trainables.recipes.imp import Imp
from trainables.recipes.radmm import Radmm
from trainables.recipes.three_stage import ThreeStage
from trainables.reparametrisations.admm import Admm


@pytest.mark.parametrize("kind", list(RECIPES))
def test_every_recipe_ends_with_a_measurement_at_its_sparsity_and_reads_back(kind: str) -> None:
    recipe = RECIPES.parse({"kind": kind, "sparsity": 0.7})
    phases = recipe.phases()
    assert isinstance(phases[-1], Measure)
    assert [p.sparsity for p in phases if isinstance(p, (Prune, Imitate))][-1:] in ([], [0.7])
    assert phases[-1].stands_for.get("sparsity", 0.7) == 0.7
    assert RECIPES.parse(plain(recipe)) == recipe
    assert all(p.sparsity == 0 for p in RECIPES.parse({"kind": kind, "sparsity": 0}).phases() if isinstance(p, Prune))


def test_three_stage_trains_prunes_and_tunes() -> None:
    recipe = ThreeStage(sparsity=0.8, epochs=4, finetune_epochs=2, finetune_lr=0.01)
    train, dense, _, tune, end = recipe.phases()
    assert isinstance(train, Train)
    assert isinstance(tune, Train)
    assert (train.epochs, tune.epochs, tune.training.optimiser.lr) == (4, 2, 0.01)
    assert tune.training.eps == recipe.train.eps == Eps("8/255")
    assert dense == Measure(stands_for={"sparsity": 0.0})
    assert end == Measure()
    assert len(ThreeStage(sparsity=0.8, finetune_epochs=0).phases()) == 4
    assert len(ThreeStage(sparsity=0.0).phases()) == 2


def test_radmm_pulls_cuts_and_retrains_as_its_code_does() -> None:
    recipe = Radmm(sparsity=0.9, epochs=200, admm_epochs=200, update_epochs=20, retrain_epochs=200)
    dense, _, pulled, cut, rest, _ = recipe.phases()
    assert isinstance(dense, Train)
    assert isinstance(pulled, Train)
    assert isinstance(cut, Prune)
    assert isinstance(rest, Train)
    assert (dense.training.optimiser.lr, dense.training.schedule) == (0.1, Cosine())
    assert pulled.weights == Admm(sparsity=0.9)
    assert cut.pruning == Admm(sparsity=0.9).pruning
    lr, factor = pulled.training.optimiser.lr, pulled.training.schedule.factor
    rates = {epoch: lr * factor(epoch, 200) for epoch in (0, 6, 7, 13, 14, 19, 20, 27, 199)}
    assert rates == pytest.approx(
        {0: 0.01, 6: 0.01, 7: 0.001, 13: 0.001, 14: 1e-4, 19: 1e-4, 20: 0.01, 27: 0.001, 199: 1e-4}
    )
    lr, factor = rest.training.optimiser.lr, rest.training.schedule.factor
    rates = {epoch: lr * factor(epoch, 200) for epoch in (0, 79, 80, 149, 150)}
    assert rates == pytest.approx({0: 0.01, 79: 0.01, 80: 0.001, 149: 0.001, 150: 1e-4})


@pytest.mark.parametrize("kind", ["three_stage", "filter", "mad", "hydra", "harp", "radmm", "guo2018", "rakin2019"])
def test_every_training_after_a_cut_may_warm_up_its_radius(kind: str) -> None:
    fields: dict[str, Any] = {"kind": kind, "finetune_eps_warmup": 2, "train": {"eps_warmup": 5}}
    fields |= {"finetune_epochs": 10} if kind == "rakin2019" else {}
    trainings = [phase.training for phase in RECIPES.parse(fields).phases() if isinstance(phase, Train)]
    assert [training.eps_warmup for training in (trainings[0], trainings[-1])] == [5, 2]
    assert all(training.eps_warmup in (0, 2) for training in trainings[1:])


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("cosentino2019", {"epochs": 60, "batch": 60, "eps": 0.3, "lr": 1.2e-3, "weight_decay": 0.0}),
        ("rakin2019", {"epochs": 160, "eps": 0.031, "lr": 0.1, "weight_decay": 3e-4, "natural_epochs": 5}),
        ("hydra", {"epochs": 100, "eps": 0.031, "lr": 0.1, "weight_decay": 1e-4}),
        ("harp", {"epochs": 100, "eps": 0.031, "lr": 0.1, "weight_decay": 5e-4}),
        ("radmm", {"epochs": 200, "eps": 8 / 255, "lr": 0.1, "weight_decay": 1e-4}),
        ("twin_rep", {"epochs": 100, "eps": 0.031, "lr": 0.1, "weight_decay": 2e-4}),
        ("mad", {"epochs": 60, "eps": 0.03, "lr": 0.1, "weight_decay": 2e-4}),
        ("flying_bird", {"epochs": 200, "eps": 8 / 255, "lr": 0.1, "weight_decay": 5e-4}),
        ("guo2018", {"lr": 0.05, "weight_decay": 5e-4}),
        ("wang2020", {}),
        ("shi2022", {}),
    ],
)
def test_recipes_of_papers_train_as_published_and_in_single_precision(kind: str, wanted: dict[str, float]) -> None:
    """As the papers and their codes say; where they are not known, the precision alone."""
    recipe = RECIPES.parse({"kind": kind})
    assert recipe.train.precision == "fp32"
    assert RECIPES.parse({"kind": kind, "train": {}}) == recipe
    own = {**plain(recipe.train.optimiser), **plain(recipe.train), "epochs": recipe.epochs}
    own["eps"] = float(recipe.train.eps)
    assert {name: own[name] for name in wanted} == pytest.approx(wanted)


def test_later_phases_are_as_long_as_published() -> None:
    lengths = {
        kind: [phase.length for phase in RECIPES.parse({"kind": kind}).phases() if isinstance(phase, Train)]
        for kind in ("hydra", "harp", "radmm", "twin_rep", "mad", "flying_bird", "rakin2019")
    }
    assert lengths == {
        "hydra": [100, 20, 100],
        "harp": [100, 20, 100],
        "radmm": [200, 200, 200],
        "twin_rep": [10, 90],
        "mad": [60, 60],
        "flying_bird": [200],
        "rakin2019": [160],
    }


@pytest.mark.parametrize(("kind", "steps"), [("radmm", 78_200), ("rakin2019", 62_560), ("harp", 7_820)])
def test_penalties_are_meant_for_the_published_steps(kind: str, steps: int) -> None:
    scaled = [p for p in RECIPES.parse({"kind": kind}).phases() if isinstance(p, Train) and p.penalty_steps]
    assert [(phase.penalty_steps, phase.penalty_factor(391)) for phase in scaled] == [(steps, 1.0)]


def test_radmm_options_override_its_defaults() -> None:
    fields = {"restarts": False, "admm_lr": 0.3, "retrain_schedule": Constant(), "retrain_lr": 0.2}
    _, _, pulled, _, rest, _ = Radmm.model_validate({**fields, "train": {"schedule": Step(warmup=2)}}).phases()
    assert isinstance(pulled, Train)
    assert isinstance(rest, Train)
    assert (pulled.training.optimiser.lr, pulled.training.schedule) == (0.3, Step())
    assert (rest.training.optimiser.lr, rest.training.schedule) == (0.2, Constant())
    assert len(Radmm(retrain_epochs=0).phases()) == 5
    assert len(Radmm(sparsity=0).phases()) == 2


@pytest.mark.parametrize(
    ("sparsity", "ladder"),
    [
        (0.0, ()),
        (0.3, (0.3,)),
        (0.5, (0.5,)),
        (0.6, (0.5, 0.6)),
        (0.875, (0.5, 0.75, 0.875)),
        (0.9, (0.5, 0.75, 0.875, 0.9)),
    ],
)
def test_the_ladder_ends_at_the_sparsity_and_its_rungs_do_not_depend_on_it(
    sparsity: float, ladder: tuple[float, ...]
) -> None:
    assert Imp(sparsity=sparsity, rate=0.5).ladder() == pytest.approx(ladder)


def test_the_classic_ladder_takes_a_fifth_each_round() -> None:
    assert Imp(sparsity=0.9, rate=0.2).ladder()[:3] == pytest.approx((0.2, 0.36, 0.488))
    assert len(Imp(sparsity=0.9).ladder()) == 11


@pytest.mark.parametrize("rewind", ["init", "dense_trained", "random", 0, 3, "none"])
def test_imp_rewinds_to_the_given_state(rewind: Any) -> None:
    phases = Imp(sparsity=0.5, rate=0.5, epochs=10, rewind=rewind).phases()
    rewinds = [phase.to for phase in phases if isinstance(phase, Rewind)]
    first, again = (phase for phase in phases if isinstance(phase, Train))
    assert rewinds == ([] if rewind == "none" else ["init" if rewind == 0 else rewind])
    assert first.snapshots == ((3,) if rewind == 3 else ())
    assert (again.start, again.epochs) == (3 if rewind == 3 else 0, 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"kind": "imp", "epochs": 10, "rewind": 10},
            "rewind epoch 10 is not before the end of a training of 10 epochs",
        ),
        ({"kind": "imp", "sparsity": 1.0}, "less than 1"),
        ({"kind": "imp", "sparsity": 95}, "less than 1"),
        ({"kind": "imp", "rewind": -1}, "greater than or equal to 0"),
        (
            {"kind": "three_stage", "epochs": 3, "train": {"eps_warmup": 4}},
            "eps_warmup\n  a warm-up of 4 epochs exceeds the training of 3",
        ),
        (
            {"kind": "three_stage", "epochs": 3, "train": {"schedule": {"kind": "cosine", "warmup": 5}}},
            "schedule.warmup\n  a warm-up of 5 epochs",
        ),
        (
            {"kind": "imp", "epochs": 10, "round_epochs": 3, "train": {"natural_epochs": 4}},
            "natural_epochs\n  a warm-up of 4 epochs exceeds the training of 3",
        ),
        ({"kind": "imp", "epochs": 10, "train": {"awp": 0.01, "awp_warmup": 11}}, "awp_warmup\n  a warm-up of 11"),
        ({"kind": "imp", "epochs": 10, "train": {"awp": 0.01, "awp_warmup": 10}}, "awp_warmup\n  the perturbation"),
        ({"kind": "imp", "epochs": 10, "train": {"natural_epochs": 10}}, "natural_epochs\n  the attack never begins"),
        (
            {"kind": "filter", "finetune_epochs": 3, "finetune_eps_warmup": 4},
            "finetune_eps_warmup\n  a warm-up of 4 epochs exceeds the training of 3",
        ),
        ({"kind": "radmm", "admm_epochs": 3, "update_epochs": 3}, "update_epochs\n  no update comes due"),
        ({"kind": "shi2022", "prune": {"structure": "2:4"}}, "a structure of 2:4 gives a sparsity of 0.5, not of 0.9"),
        ({"kind": "gradual", "prune": {"pruner": "snip"}}, "pruning within a training goes by the weights alone"),
        ({"kind": "radmm", "prune": {"pruner": "snip"}}, "prune.pruner\n  weights are pulled to the nearest ones"),
        (
            {"kind": "radmm", "sparsity": 0.5, "prune": {"structure": "2:4", "pruner": "random"}},
            "prune.pruner\n  weights are pulled to the nearest ones",
        ),
        ({"kind": "radmm", "prune": {"structure": "filter"}}, "prune.structure\n  weights are pulled to single"),
        (
            {"kind": "radmm", "retrain_epochs": 2, "retrain_schedule": {"kind": "cosine", "warmup": 3}},
            "retrain_schedule.warmup\n  a warm-up of 3 epochs exceeds the training of 2",
        ),
        ({"kind": "three_stage", "epochs": 0}, "greater than 0"),
        ({"kind": "imp", "rate": 1.0}, "less than 1"),
    ],
)
def test_what_cannot_be_run_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RECIPES.parse(fields)
