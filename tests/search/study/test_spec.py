from __future__ import annotations

import json
import re

import pytest
from jsonschema import Draft202012Validator

from search.early_stopping import SCHEDULERS
from search.files.fields import bound
from search.files.yaml import parse
from search.samplers import SAMPLERS
from search.space.parameters import PARAMETERS
from search.study.changes import changes
from search.study.space_check import MAX_CORNERS, corner_trials
from search.study.spec import Budget, StudySpec, json_schema
from tests.search.studies import BASE, study
from trainables.core.errors import SpecError
from trainables.core.spec import Spec
from trainables.losses.cross_entropy import Madry
from trainables.losses.trades import Trades
from trainables.pruning import Pruning
from trainables.recipes.three_stage import ThreeStage

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

REFUSED = {
    "forgotten /255": ("  train: {eps: 8}\n", r"my.yaml:6:11 recipe.train.eps: .*did you mean 8/255\?"),
    "percentage": ("  sparsity: 95\n", r"my.yaml:6:3 recipe.sparsity: 95 is not allowed.*did you mean 0.95\?"),
    "rewind beyond training": ("  rewind: 40\n", r"my.yaml:6:3 recipe.rewind: rewind epoch 40 .*30 epochs"),
    "warm-up beyond training": (
        "  train: {schedule: {kind: cosine, warmup: 31}}\n",
        r"my.yaml:6:36 recipe.train.schedule.warmup: .*31 epochs exceeds the training of 30",
    ),
    "unknown key": ("  epocs: 3\n", r"my.yaml:6:3 recipe.epocs: unknown key; did you mean 'epochs'\?"),
    "unknown key far inside": (
        "  train: {optimiser: {kind: adam, momentm: 1}}\n",
        r"my.yaml:6:35 recipe.train.optimiser.momentm: unknown key \(allowed: kind, lr, weight_decay\)",
    ),
    "unknown key of a regulariser": (
        "  train:\n    regularisers: {l1: {wieght: 1}}\n",
        r"my.yaml:7:25 recipe.train.regularisers.l1.wieght: unknown key; did you mean 'weight'\?",
    ),
    "unknown kind": ("  train: {loss: tardes}\n", r"unknown loss 'tardes'; .*did you mean 'trades'\?"),
    "metric given twice": (
        "protocol: {metrics: [noise, noise]}\n",
        r"my.yaml:6:\d+ protocol.metrics\[1\]: an earlier noise gives the same names",
    ),
    "two metrics of one name": (
        "protocol: {metrics: [attacked, {kind: attacked, attack: fgsm}]}\n",
        r"my.yaml:6:\d+ protocol.metrics\[1\]: an earlier attacked gives the same names",
    ),
    "unknown top key": ("sampelr: tpe\n", r"my.yaml:6:1 sampelr: unknown key; did you mean 'sampler'\?"),
    "text for a number": ("  epochs: many\n", r"recipe.epochs: 'many' is not allowed: must be a valid integer"),
    "no trials": ("budget: {trials: 0}\n", r"my.yaml:6:10 budget.trials: 0 is not allowed: must be greater than 0"),
    "negative seed": ("seed: -1\n", r"my.yaml:6:1 seed: -1 is not allowed"),
    "infinite": ("  rate: .inf\n", r"recipe.rate: inf is not allowed"),
    "no time": ("budget: {wall_time: soon}\n", r"budget.wall_time: 'soon' is no time"),
    "schema of the future": ("schema: 2\n", r"my.yaml:6:1 schema: 2 is not allowed: must be 1"),
    "unknown objective": (
        "objectives: {acuracy: maximise}\n",
        r"'acuracy' is no measure; did you mean '\w+_accuracy'",
    ),
    "objective turned round": (
        "objectives: {sparsity: minimise}\n",
        r"objectives.sparsity: less sparsity is not better; write maximise",
    ),
    "count turned round": (
        "objectives: {nonzero: maximise}\n",
        r"more nonzero is not better; write minimise",
    ),
    "no objectives": ("objectives: {}\n", r"objectives: at least 1 required"),
    "constraint in per cent": (
        "constraints: {clean_accuracy: '>= 75'}\n",
        r"constraints.clean_accuracy: .*did you mean 0.75\?",
    ),
    "target in per cent": ("target: {robust_accuracy: '>= 45'}\n", r"target.robust_accuracy: .*did you mean 0.45\?"),
    "target of nothing": ("target: {robustness: '>= 0.4'}\n", r"target.robustness: 'robustness' is no measure"),
    "target of sparsity": ("target: {sparsity: '>= 0.4'}\n", r"target.sparsity: .*bound sparsity with `constraints`"),
    "target without sparsity": (
        "target: {robust_accuracy: '>= 0.4'}\nobjectives: {robust_accuracy: maximise}\n",
        r"my.yaml:6:1 target: .*sparsity must be an objective",
    ),
    "constraint without a bound": ("constraints: {clean_accuracy: 0.75}\n", r"constraints.clean_accuracy: 0.75 is not"),
    "constraint misspelt": (
        "constraints: {clean_accuracy: '> 0.75'}\n",
        r"'> 0.75' is no constraint; write one such as",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_slips_are_refused_with_line_key_value_and_hint(case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(SpecError) as caught:
        study(text)
    assert re.search(message, str(caught.value)), str(caught.value)


QUEUES = {
    "outside": (
        "{recipe.sparsity: 0.99, recipe.rewind: init}",
        r"my.yaml:11:6 enqueue\[0\].recipe.sparsity: 0.99 is not in the space: 0.3 to 0.95",
    ),
    "no choice": (
        "{recipe.sparsity: 0.5, recipe.rewind: inti}",
        r"my.yaml:11:28 enqueue\[0\].recipe.rewind: 'inti' is not in the space: one of 'init', 3",
    ),
    "missing": ("{recipe.sparsity: 0.5}", r"my.yaml:11:5 enqueue\[0\]: 'recipe.rewind' is missing"),
    "unknown": (
        "{recipe.sparsity: 0.5, recipe.rewind: init, recipe.rewnd: 3}",
        r"enqueue\[0\].recipe.rewnd: 'recipe.rewnd' is no parameter of the space; did you mean 'recipe.rewind'",
    ),
    "inactive": (
        "{recipe.sparsity: 0.5, recipe.rewind: init, recipe.rate: 0.3}",
        r"'recipe.rate' is not searched with these values",
    ),
    "no value": ("{recipe.sparsity: [1], recipe.rewind: init}", r"my.yaml:11:6 enqueue\[0\].recipe.sparsity"),
    "twice": (
        "{recipe.sparsity: 0.5, recipe.rewind: init}\n  - {recipe.rewind: init, recipe.sparsity: 0.5}",
        r"my.yaml:12:5 enqueue\[1\]: these are the parameters of an earlier one",
    ),
}


@pytest.mark.parametrize("case", QUEUES)
def test_enqueued_trials_that_cannot_be_are_refused_at_their_line(case: str) -> None:
    text, message = QUEUES[case]
    with pytest.raises(SpecError) as caught:
        study(
            "space:\n  recipe.sparsity: {kind: float, low: 0.3, high: 0.95}\n"
            "  recipe.rewind: {kind: categorical, choices: [init, 3]}\n  recipe.rate: "
            f"{{kind: float, low: 0.1, high: 0.5, when: {{recipe.rewind: 3}}}}\nenqueue:\n  - {text}\n"
        )
    assert re.search(message, str(caught.value)), str(caught.value)


def test_enqueued_values_may_be_written_otherwise() -> None:
    spec = study(
        "space:\n  recipe.train.regularisers.l1: {kind: categorical, choices: [0.0, 1e-5]}\n"
        "  recipe.sparsity: {kind: float, low: 0, high: 0.9}\n"
        "enqueue: [{recipe.sparsity: 0, recipe.train.regularisers.l1: 0}]\n"
    )
    (given,) = spec.enqueued()
    assert list(given.items()) == [("recipe.train.regularisers.l1", 0.0), ("recipe.sparsity", 0.0)]
    assert all(type(value) is float for value in given.values())


def test_a_study_to_start_from_is_named_once() -> None:
    with pytest.raises(SpecError, match=r"my.yaml:6:17 warm_start\[1\]: 'b' is named twice"):
        study("warm_start: [b, b]\n")


REFUSED_SPACES = {
    "low above high": ("recipe.sparsity: {kind: float, low: 0.9, high: 0.1}", r"sparsity.low: 0.9 exceeds high, 0.1"),
    "log from 0": ("recipe.rate: {kind: float, low: 0, high: 0.5, log: true}", r"rate.low: a logarithmic range cannot"),
    "log with step": ("recipe.epochs: {kind: int, low: 1, high: 9, log: true, step: 2}", r"epochs.step: .*no step"),
    "step 0": ("recipe.rate: {kind: float, low: 0.1, high: 0.5, step: 0}", r"rate.step: 0 is not allowed"),
    "uneven step": ("recipe.rate: {kind: float, low: 0.1, high: 0.5, step: 0.3}", r"rate.high: .*last step is 0.4"),
    "empty categorical": ("recipe.rewind: {kind: categorical, choices: []}", r"rewind.choices: at least 1 required"),
    "equal choices": ("recipe.rewind: {kind: categorical, choices: [1, true]}", r"rewind.choices\[1\]: True equals an"),
    "unknown kind": (
        "recipe.rate: {kind: flaot, low: 0, high: 1}",
        r"unknown parameter 'flaot'; .*did you mean 'float'",
    ),
    "missing bound": ("recipe.rate: {kind: float, low: 0.1}", r"rate.high: this key is required"),
    "unknown field": ("recipe.sparsty: {kind: float, low: 0, high: 0.5}", r"sparsty: unknown key; did you mean 'spars"),
    "field of another kind": (
        "recipe.train.loss.beta: {kind: int, low: 1, high: 2}",
        r"beta: unknown key \(allowed:",
    ),
    "through a value": ("recipe.epochs.x: {kind: int, low: 1, high: 2}", r"recipe.epochs is 30, which has no 'x'"),
    "protocol": ("protocol.eps: {kind: float, low: 0, high: 1}", r"cannot be searched: .*fixed for a study"),
    "no path": ("recipe.: {kind: float, low: 0, high: 1}", r"'recipe.' cannot be searched"),
    "percentage": (
        "recipe.sparsity: {kind: float, low: 0, high: 95}",
        r"my.yaml:7:\d+ .*sparsity.high: 95 .*mean 0.95",
    ),
    "forgotten /255": (
        "recipe.train.eps: {kind: categorical, choices: [8/255, 8]}",
        r"my.yaml:7:58 space.recipe.train.eps.choices\[1\]: .*did you mean 8/255\?",
    ),
    "negative weight": (
        "recipe.train.regularisers.l1: {kind: categorical, choices: [0, -1]}",
        r"my.yaml:7:66 .*choices\[1\]: -1 is not allowed",
    ),
    "rewind beyond training": (
        "recipe.rewind: {kind: int, low: 0, high: 30}",
        r"my.yaml:7:\d+ .*rewind.high: rewind epoch 30",
    ),
    "condition on nothing": (
        "recipe.rate: {kind: float, low: 0.1, high: 0.2, when: {recipe.rewnd: 1}}",
        r"'recipe.rewnd' is no parameter of this space",
    ),
    "condition on itself": (
        "recipe.rate: {kind: float, low: 0.1, high: 0.2, when: {recipe.rate: 0.1}}",
        r"cannot depend on itself",
    ),
}


@pytest.mark.parametrize("case", REFUSED_SPACES)
def test_impossible_spaces_are_refused_at_their_line(case: str) -> None:
    text, message = REFUSED_SPACES[case]
    with pytest.raises(SpecError) as caught:
        study(f"space:\n  {text}\n")
    assert re.search(message, str(caught.value)), str(caught.value)
    assert str(caught.value).startswith("my.yaml:7:")


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{recipe.epochs: 5}", r"when.recipe.epochs: 'recipe.epochs' must stand before 'recipe.rate'"),
        ("{recipe.rewind: [init, inti]}", r"when.recipe.rewind: 'recipe.rewind' is never 'inti'"),
        ("{recipe.train.eps: 0.1}", r"'recipe.train.eps' is a real number"),
        ("{recipe.rewind: []}", r"when.recipe.rewind: at least 1 required"),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(condition: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        study(
            "space:\n  recipe.rewind: {kind: categorical, choices: [init, 3]}\n"
            "  recipe.train.eps: {kind: float, low: 0, high: 8/255}\n"
            f"  recipe.rate: {{kind: float, low: 0.1, high: 0.2, when: {condition}}}\n"
            "  recipe.epochs: {kind: int, low: 4, high: 5}\n"
        )


def test_values_that_are_impossible_only_together_are_found() -> None:
    with pytest.raises(SpecError, match=r"my.yaml:7:\d+ space.recipe.rewind.high: rewind epoch 10 .* of 10 epochs"):
        study(
            "space:\n  recipe.rewind: {kind: int, low: 0, high: 10}\n  recipe.epochs: {kind: int, low: 10, high: 20}\n"
        )
    # The same bounds are fine where the condition keeps them apart.
    study(
        "space:\n  recipe.epochs: {kind: categorical, choices: [10, 20]}\n"
        "  recipe.rewind: {kind: int, low: 0, high: 15, when: {recipe.epochs: 20}}\n"
    )


def test_all_problems_are_listed_but_not_without_end() -> None:
    with pytest.raises(SpecError) as caught:
        study("  sparsity: 95\n  epochs: 0\nseed: -1\nbudget: {trials: 0}\n")
    assert [line.split()[1] for line in str(caught.value).splitlines()] == [
        "recipe.sparsity:",
        "recipe.epochs:",
        "budget.trials:",
        "seed:",
    ]
    with pytest.raises(SpecError) as caught:
        study("".join(f"x{n}: 1\n" for n in range(50)))
    assert str(caught.value).splitlines()[-1] == "... and 30 more"


@pytest.mark.parametrize(
    "name",
    ["../../x", "con", "nul.txt", "a" * 300, "🦀", "a\nb", "-rf", "", ".hidden", "A", "a..b", "a.", "a/b", "a b"],
)
def test_names_that_are_no_directory_everywhere_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match=r"name: "):
        study("", f"name={json.dumps(name)}")


@pytest.mark.parametrize("name", ["a", "cifar10-resnet18", "0.1_x", "console"])
def test_plain_names_are_accepted(name: str) -> None:
    assert study("", f"name={json.dumps(name)}").name == name


def test_trial_sets_the_parameters_and_nothing_else() -> None:
    spec = study(SPACE + "seed: 7\n")
    trial = spec.trial(
        {
            "recipe.sparsity": 0.8,
            "recipe.train.eps": "8/255",
            "recipe.rewind": 3,
            "recipe.train.regularisers.l1": 1e-5,
            "recipe.train.loss": "trades",
            "recipe.train.loss.beta": 2.0,
            "model.normalise": False,
        }
    )
    recipe = trial.recipe.model_dump()
    assert (recipe["sparsity"], recipe["rewind"]) == (0.8, 3)
    assert trial.recipe.train.eps.text == "8/255"
    assert trial.recipe.train.regularisers["l1"].weight == 1e-5
    assert trial.recipe.train.loss.model_dump() == {"kind": "trades", "beta": 2.0}
    assert trial.model.normalise is False
    assert trial.seed == 7
    assert trial.recipe.epochs == spec.recipe.epochs
    assert spec.trial({}).recipe == spec.recipe


def test_impossible_trials_name_the_parameter() -> None:
    with pytest.raises(SpecError, match=r"recipe.sparsity = 3\nrecipe.sparsity: 3 is not allowed"):
        study().trial({"recipe.sparsity": 3})


def test_many_corners_are_sampled() -> None:
    names = ["recipe.sparsity", "recipe.train.label_smoothing", "recipe.train.ema", "recipe.rate", "recipe.train.eps"]
    axes = "".join(f"  {name}: {{kind: categorical, choices: [0.1, 0.2, 0.3, 0.4]}}\n" for name in names)
    spec = study(f"space:\n{axes}")
    assert 4 ** len(spec.space) > MAX_CORNERS


def test_fractions_are_bounds() -> None:
    spec = study("space:\n  recipe.train.eps: {kind: float, low: 0, high: 8/255}\n")
    assert spec.space["recipe.train.eps"].extremes() == {"low": 0.0, "high": 8 / 255}


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("2d", 172800), ("90", None), ("1.5", None)]
)
def test_wall_time_is_read_as_seconds(text: str, seconds: int | None) -> None:
    assert study(f"budget: {{wall_time: {text}}}\n").budget.wall_time == (seconds or float(text))


def test_bounds_are_read() -> None:
    assert bound(">=0.75") == (">=", 0.75)
    assert bound(" <= 1e4 ") == ("<=", 10000.0)
    assert study("constraints: {nonzero: '<=10000'}\n").constraints == {"nonzero": "<= 10000"}


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


SHORT_FORMS = """\
  train: {regularisers: {l1: 1e-5}, loss: trades, eps: 8/255}
space:
  recipe.rewind: {kind: categorical, choices: [init, 3]}
  recipe.sparsity: {kind: float, low: 1/10, high: 0.9, when: {recipe.rewind: init}}
  recipe.rate: {kind: float, low: 0.1, high: 0.9, when: {recipe.rewind: [init, 3]}}
enqueue: [{recipe.rewind: init, recipe.sparsity: 0.5, recipe.rate: 0.3}]
warm_start: [other]
budget: {wall_time: 30m}
constraints: {clean_accuracy: ">= 0.5"}
target: {robust_accuracy: ">= 0.4"}
"""


@pytest.mark.parametrize("more", ["", SPACE, SHORT_FORMS])
def test_json_schema_accepts_what_the_loader_accepts(more: str) -> None:
    study(more)
    Draft202012Validator(json_schema()).validate(parse(BASE + more, "my.yaml").data)


@pytest.mark.parametrize(
    "more", ["epocs: 1\n", "  epochs: -1\n", "sampler: tpee\n", "budget: {trials: 0}\n", "name: A\n"]
)
def test_json_schema_refuses_what_an_editor_should_underline(more: str) -> None:
    data = parse(BASE.replace("name: a\n", "" if more.startswith("name") else "name: a\n") + more, "my.yaml").data
    assert not Draft202012Validator(json_schema()).is_valid(data)


def test_errors_do_not_depend_on_the_text_being_a_file() -> None:
    with pytest.raises(SpecError, match=r"^other.yaml:1:1: duplicate|^other.yaml:2:1: duplicate"):
        parse("a: 1\na: 2\n", "other.yaml")


KINDS = """\
  rate: 0.4
  rewind: dense_trained
  epochs: 7
  prune: {scope: layerwise}
  train: {loss: {kind: trades, beta: 3}, optimiser: {kind: adam, lr: 0.1}}
space:
  recipe.rate: {kind: float, low: 0.1, high: 0.3, when: {}}
  recipe.kind: {kind: categorical, choices: [imp, three_stage]}
"""


def test_a_searched_recipe_has_its_own_fields_and_those_of_all_recipes() -> None:
    more = KINDS.replace("  recipe.rate: {kind: float, low: 0.1, high: 0.3, when: {}}\n", "")
    spec = study(
        more + "  recipe.rate: {kind: float, low: 0.1, high: 0.3, when: {recipe.kind: imp}}\n"
        "  recipe.finetune_epochs: {kind: categorical, choices: [2], when: {recipe.kind: three_stage}}\n"
    )
    ladder = spec.trial({"recipe.kind": "imp", "recipe.rate": 0.2}).recipe
    assert ladder == spec.recipe.model_copy(update={"rate": 0.2})
    once = spec.trial({"recipe.kind": "three_stage", "recipe.finetune_epochs": 2}).recipe
    assert isinstance(once, ThreeStage)
    assert (once.epochs, once.finetune_epochs, once.train) == (7, 2, spec.recipe.train)
    assert once.prune == Pruning()


def test_a_kind_that_does_not_exist_is_refused_where_it_is_written() -> None:
    misspelt = KINDS.replace("three_stage", "threestage")
    with pytest.raises(SpecError, match=r"recipe.kind.choices\[1\]: unknown recipe 'threestage'; .*mean 'three_stage'"):
        study(misspelt + "  recipe.finetune_epochs: {kind: int, low: 1, high: 2, when: {recipe.kind: three_stage}}\n")
    text = "space:\n  model.kind: {kind: categorical, choices: [lenet300, resnet7]}\n"
    with pytest.raises(SpecError, match=r"model.kind.choices\[1\]: unknown model 'resnet7'"):
        study(text)


def test_trials_at_the_corner_points_have_every_extreme() -> None:
    spec = study(
        "space:\n  recipe.epochs: {kind: categorical, choices: [10, 20]}\n"
        "  recipe.rewind: {kind: int, low: 0, high: 15, when: {recipe.epochs: 20}}\n"
    )
    found = {(trial.recipe.epochs, trial.recipe.rewind) for trial in corner_trials(spec.space, spec.trial)}
    assert found == {(10, spec.recipe.rewind), (20, 0), (20, 15)}
    assert [trial.recipe for trial in corner_trials(study("").space, study("").trial)] == [study("").recipe]


def test_a_searched_kind_inside_of_a_recipe_leaves_nothing_of_the_other() -> None:
    spec = study(
        "  train: {loss: {kind: trades, beta: 3}}\nspace:\n"
        "  recipe.train.loss.kind: {kind: categorical, choices: [madry, trades]}\n"
        "  recipe.train.loss.beta: {kind: float, low: 1, high: 2, when: {recipe.train.loss.kind: trades}}\n"
    )
    assert spec.trial({"recipe.train.loss.kind": "madry"}).recipe.train.loss == Madry()
    trades = spec.trial({"recipe.train.loss.kind": "trades", "recipe.train.loss.beta": 1.5})
    assert trades.recipe.train.loss == Trades(beta=1.5)


def test_a_field_that_only_some_searched_recipes_have_needs_a_condition() -> None:
    with pytest.raises(SpecError, match=r"recipe.rate.low: unknown key"):
        study(KINDS)


@pytest.mark.parametrize(
    "kind",
    [StudySpec, Budget, *PARAMETERS.values(), *SAMPLERS.values(), *SCHEDULERS.values()],
    ids=lambda kind: kind.__name__,
)
def test_each_field_has_a_description_for_editors(kind: type[Spec]) -> None:
    missing = [name for name, field in kind.model_fields.items() if name != "kind" and not field.description]
    assert missing == []
