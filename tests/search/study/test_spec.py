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
from search.study.spec import Budget, StudySpec, json_schema
from tests.search.studies import BASE, SPACE, study
from trainables.core.errors import SpecError
from trainables.core.spec import Spec

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
    "no time": ("budget: {wall_time: soon}\n", r"budget.wall_time: 'soon' is not a time"),
    "schema of the future": ("schema: 2\n", r"my.yaml:6:1 schema: 2 is not allowed: must be 1"),
    "unknown objective": (
        "objectives: {acuracy: maximise}\n",
        r"'acuracy' is not a measure; did you mean '\w+_accuracy'",
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
    "target of nothing": ("target: {robustness: '>= 0.4'}\n", r"target.robustness: 'robustness' is not a measure"),
    "target of sparsity": ("target: {sparsity: '>= 0.4'}\n", r"target.sparsity: .*bound sparsity with `constraints`"),
    "target without sparsity": (
        "target: {robust_accuracy: '>= 0.4'}\nobjectives: {robust_accuracy: maximise}\n",
        r"my.yaml:6:1 target: .*sparsity must be an objective",
    ),
    "constraint without a bound": ("constraints: {clean_accuracy: 0.75}\n", r"constraints.clean_accuracy: 0.75 is not"),
    "constraint that no number meets": (
        "constraints: {nonzero: '<= 1e400'}\n",
        r"constraints.nonzero: '<= 1e400' is not",
    ),
    "constraint without quotes": ("constraints:\n  clean_accuracy: >= 0.75\n", r"my.yaml:7:\d+: a bound needs quotes"),
    "constraint without quotes in braces": (
        "constraints: {clean_accuracy: >= 0.75}\n",
        r"my.yaml:6:\d+: a bound needs quotes, such as '>= 0.75'",
    ),
    "constraint misspelt": (
        "constraints: {clean_accuracy: '> 0.75'}\n",
        r"'> 0.75' is not a constraint; write one such as",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_slips_are_refused_with_line_key_value_and_hint(case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(SpecError) as caught:
        study(text)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_a_study_to_start_from_is_named_once() -> None:
    with pytest.raises(SpecError, match=r"my.yaml:6:17 warm_start\[1\]: 'b' is named twice"):
        study("warm_start: [b, b]\n")


KINDS = """\
  epochs: 6
measure_at: [{at}]
protocol: {{metrics: [{{kind: dynamics, epochs: [{followed}]}}]}}
space:
  recipe.kind: {{kind: categorical, choices: [imp, three_stage]}}
  recipe.round_epochs: {{kind: categorical, choices: [4], when: {{recipe.kind: imp}}}}
  recipe.finetune_epochs: {{kind: categorical, choices: [3, 5], when: {{recipe.kind: three_stage}}}}
"""
"""Kinds with trainings of 6 epochs, and after a cut of 3 to 5."""


def test_what_is_measured_within_trainings_comes_due_in_some_trial() -> None:
    assert study(KINDS.format(at=5, followed="2, 5")).measure_at == (5,)
    with pytest.raises(SpecError) as caught:
        study(KINDS.format(at="2, 2, 6", followed="5, 6"))
    assert [line.partition(" ")[2] for line in str(caught.value).splitlines()] == [
        "measure_at[1]: 2 is named twice",
        "measure_at[2]: no training is longer than 6 epochs, so nothing would be measured after 6",
        "protocol.metrics[0].epochs: nothing would be compared after 6 epochs; the trainings that are compared are of "
        "5 epochs at most",
    ]
    with pytest.raises(SpecError, match=r"metrics\[0\].epochs: .* after 1 epochs; .* none: no trial has two"):
        study("  sparsity: 0\nprotocol: {metrics: [{kind: dynamics, epochs: [1]}]}\n")


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


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", SPACE, SHORT_FORMS])
def test_json_schema_accepts_what_the_loader_accepts(more: str) -> None:
    study(more)
    Draft202012Validator(json_schema()).validate(parse(BASE + more, "my.yaml").data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", ["epocs: 1\n", "  epochs: -1\n", "sampler: tpee\n", "budget: {trials: 0}\n", "name: A\n"]
)
def test_json_schema_refuses_what_an_editor_should_underline(more: str) -> None:
    data = parse(BASE.replace("name: a\n", "" if more.startswith("name") else "name: a\n") + more, "my.yaml").data
    assert not Draft202012Validator(json_schema()).is_valid(data)


def test_errors_do_not_depend_on_the_text_being_a_file() -> None:
    with pytest.raises(SpecError, match=r"^other.yaml:1:1: duplicate|^other.yaml:2:1: duplicate"):
        parse("a: 1\na: 2\n", "other.yaml")


@pytest.mark.parametrize(
    "kind",
    [StudySpec, Budget, *PARAMETERS.values(), *SAMPLERS.values(), *SCHEDULERS.values()],
    ids=lambda kind: kind.__name__,
)
def test_each_field_has_a_description_for_editors(kind: type[Spec]) -> None:
    missing = [name for name, field in kind.model_fields.items() if name != "kind" and not field.description]
    assert missing == []
