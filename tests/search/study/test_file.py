from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from search.early_stopping.reach import Reach
from search.files.yaml import parse
from search.samplers.ehvi.sampler import Ehvi
from search.samplers.grid import Grid
from search.space.parameters import Categorical, searched
from search.study import spec as spec_module
from search.study.file import builtin_names, builtin_text, dump, from_dict, load, loads
from search.study.spec import StudySpec, json_schema
from tests.search.studies import BASE, study
from trainables.core.errors import SpecError
from trainables.core.spec import Eps
from trainables.data import DATASETS, tensors
from trainables.models import MODELS
from trainables.pruning import PRUNERS
from trainables.recipes import RECIPES
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.run import Run

BUILTIN = {
    "quickstart": ("digits", "lenet300"),
    "mnist-lenet300": ("mnist", "lenet300"),
    "fashion-lenet5": ("fashion_mnist", "lenet5"),
    "cifar10-resnet20": ("cifar10", "resnet20"),
    "cifar10-resnet20-fast": ("cifar10", "resnet20"),
    "cifar10-resnet18": ("cifar10", "resnet18"),
    "cifar10-vgg16": ("cifar10", "vgg16"),
    "svhn-resnet18": ("svhn", "resnet18"),
    "cosentino2019-mnist": ("mnist", "lenet300"),
    "cosentino2019-fashion": ("fashion_mnist", "lenet300"),
    "wang2020-mnist": ("mnist", "lenet5"),
    "gradual-mnist": ("mnist", "lenet5"),
    "filter-mnist": ("mnist", "lenet5"),
    "flying_bird-mnist": ("mnist", "lenet5"),
    "flying_bird-cifar10": ("cifar10", "resnet18"),
    "rakin2019-digits": ("digits", "lenet300"),
    "rakin2019-cifar10": ("cifar10", "resnet18"),
    "hydra-digits": ("digits", "lenet300"),
    "hydra-cifar10": ("cifar10", "resnet18"),
    "harp-digits": ("digits", "lenet300"),
    "radmm-digits": ("digits", "lenet300"),
    "twin_rep-digits": ("digits", "lenet300"),
    "mad-digits": ("digits", "lenet300"),
    "shi2022-mnist": ("mnist", "lenet300"),
    "guo2018-mnist": ("mnist", "lenet300"),
    "all-recipes": ("digits", "lenet300"),
    "cifar10-resnet18-front": ("cifar10", "resnet18"),
    "two-four-mnist": ("mnist", "lenet300"),
}
GRIDS = {"cifar10-resnet18-front", "two-four-mnist"}
"""Studies that compare a few configurations, and search nothing."""


def test_the_default_study_comes_first() -> None:
    assert set(builtin_names()) == set(BUILTIN)
    assert builtin_names()[0] == "quickstart"


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_studies_are_what_their_names_say(name: str) -> None:
    spec = load(name)
    assert spec.name == name
    assert (spec.data.kind, spec.model.kind) == BUILTIN[name]
    assert spec.description
    trial = spec.trial({})
    assert trial.recipe == spec.recipe
    if name in GRIDS:
        assert spec.sampler.kind == "grid"
        return
    assert "recipe.sparsity" in spec.space
    if name.startswith(spec.recipe.kind):
        return  # A paper's study: it searches what the paper varies.
    assert [phase.kind for phase in trial.recipe.phases()].count("measure") >= 2
    # Every searched quantity of the mission has its place, and the training radii reach the measured one.
    assert {"recipe.sparsity", "recipe.train.eps", "recipe.train.regularisers.l1"} < set(spec.space)
    assert spec.recipe.kind != "imp" or "recipe.rewind" in spec.space
    Draft202012Validator(json_schema()).validate(parse(builtin_text(name), name).data)


@pytest.mark.parametrize("name", [*sorted(GRIDS), "all-recipes", *(n for n in BUILTIN if n.split("-")[0] in RECIPES)])
def test_papers_and_comparisons_of_methods_train_in_fp32(name: str) -> None:
    """Whatever `auto` is on a worker: no method in another precision than the one it is set against."""
    spec = load(name)
    kinds = spec.space.get("recipe.kind")
    for kind in kinds.choices if isinstance(kinds, Categorical) else (spec.recipe.kind,):
        first = {path: next(iter(parameter.extremes().values())) for path, parameter in spec.space.items()}
        chosen = {"recipe.kind": kind} if kinds else {}
        assert spec.trial(searched(spec.space, {**first, **chosen})).recipe.train.precision == "fp32"


@pytest.mark.parametrize("name", BUILTIN)
def test_studies_survive_being_written_and_read(name: str) -> None:
    spec = load(name)
    assert loads(dump(spec), "dumped") == spec
    assert dump(loads(dump(spec), "dumped")) == dump(spec)


def test_all_recipes_are_searched_together_and_each_can_run() -> None:
    spec = load("all-recipes")
    kinds = spec.space["recipe.kind"]
    assert isinstance(kinds, Categorical)
    assert set(kinds.choices) == set(RECIPES)
    first = {path: next(iter(parameter.extremes().values())) for path, parameter in spec.space.items()}
    for kind in kinds.choices:
        params = searched(spec.space, {**first, "recipe.kind": kind})
        trial = spec.trial(params)
        assert trial.recipe.kind == kind
        assert trial.recipe.phases()[-1].kind == "measure"


@pytest.mark.parametrize("setting", ["pruner=snip", "structure=filter"])
def test_what_gradual_pruning_cannot_do_is_refused_where_it_stands(setting: str) -> None:
    with pytest.raises(SpecError, match=rf"recipe\.prune\.{setting.partition('=')[0]}: pruning within a training"):
        load("gradual-mnist", [f"recipe.prune.{setting}"])


def test_radii_survive_as_they_were_written() -> None:
    text = dump(load("cifar10-resnet20"))
    assert "8/255" in text
    assert "0.0313" not in text


sparsities = st.floats(0, 0.99)
numbers = st.floats(1e-6, 1.0)


@pytest.mark.slow
@settings(max_examples=30)
@given(
    name=st.from_regex(r"x[a-z0-9_-]{0,20}", fullmatch=True),
    description=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    bounds=st.tuples(sparsities, sparsities).map(sorted),
    rate=st.floats(0.05, 0.95),
    choices=st.lists(st.sampled_from(["init", "random", "none", "dense_trained", 0, 3, 29]), min_size=1, unique=True),
    weight=numbers,
    trials=st.integers(1, 10**6),
    wall_time=st.none() | st.floats(1, 1e7),
    limit=st.floats(0, 1),
    seed=st.integers(0, 2**63),
)
def test_any_study_survives_being_written_and_read(bounds: list[float], limit: float, **given: Any) -> None:
    space = {
        "recipe.sparsity": {"kind": "float", "low": bounds[0], "high": bounds[1]},
        "recipe.rewind": {"kind": "categorical", "choices": given["choices"]},
        "recipe.train.regularisers.l1": {
            "kind": "float",
            "low": given["weight"],
            "high": 2 * given["weight"],
            "log": True,
            "when": {"recipe.rewind": given["choices"][0]},
        },
    }
    spec = StudySpec.model_validate(
        {
            "name": given["name"],
            "description": given["description"],
            "data": "digits",
            "model": "lenet300",
            "recipe": {"kind": "imp", "rate": given["rate"], "train": {"eps": "2/255"}},
            "space": space,
            "constraints": {"clean_accuracy": f">= {limit!r}"},
            "budget": {"trials": given["trials"], "wall_time": given["wall_time"]},
            "seed": given["seed"],
        }
    )
    again = loads(dump(spec), "dumped")
    assert again == spec
    assert list(again.space) == list(spec.space)


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    spec = study(
        "",
        "recipe.train.eps=4/255",
        "recipe.train.attack.steps=3",
        "protocol.attack.restarts=2",
        "space.recipe.sparsity={kind: float, low: 0, high: 0.5}",
        "space.recipe.sparsity.high=0.9",
        "objectives={clean_accuracy: maximise, sparsity: maximise}",
        "name=b",
    )
    plain = study()
    assert spec.name == "b"
    assert spec.recipe.train.eps.text == "4/255"
    assert spec.recipe.train.attack == plain.recipe.train.attack.model_copy(update={"steps": 3})
    # Not the attack's own default of 10 steps: the protocol's.
    assert spec.protocol.attack == plain.protocol.attack.model_copy(update={"restarts": 2})
    assert spec.space["recipe.sparsity"].extremes() == {"low": 0, "high": 0.9}
    assert list(spec.objectives) == ["clean_accuracy", "sparsity"]
    assert spec.recipe.model_copy(update={"train": plain.recipe.train}) == plain.recipe


def test_a_bare_kind_keeps_its_kind_when_a_field_is_set() -> None:
    spec = study("  train: {loss: trades, regularisers: {l1: 1e-5}}\n", "recipe.train.loss.beta=2")
    assert spec.recipe.train.loss.model_dump() == {"kind": "trades", "beta": 2.0}
    spec = study("  train: {regularisers: {l1: 1e-5}}\n", "recipe.train.regularisers.l1.weight=1e-3")
    assert spec.recipe.train.regularisers["l1"].weight == 1e-3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.epocs=3", r"--set recipe.epocs=3: recipe.epocs: unknown key; did you mean 'epochs'"),
        ("recipe.train.eps=8", r"--set recipe.train.eps=8: .*did you mean 8/255\?"),
        ("recipe.epochs.x=3", r"--set recipe.epochs.x=3: .*recipe.epochs is 30, which has no 'x'"),
        ("recipe.epochs", r"--set recipe.epochs: write key=value"),
        ("=3", r"--set =3: write key=value"),
        ("a..b=3", r"--set a..b=3: write key=value"),
        ("recipe.rate=[1", r"--set recipe.rate=\[1:1:3: expected"),
        ("recipe.rate=*x", r"anchors and aliases"),
        ("recipe.rate=!!int 3", r"tags"),
        (
            "space.recipe.sparsity={kind: float, low: 0, high: 2}",
            r"--set .*: space.recipe.sparsity.high: 2 is not allowed",
        ),
        ("schema=7", r"--set schema=7: schema: 7 is not allowed"),
    ],
)
def test_wrong_overrides_are_named(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        study("", override)


def test_a_later_problem_in_the_file_is_still_at_its_line() -> None:
    with pytest.raises(SpecError, match=r"^my.yaml:6:1 seed: -1"):
        study("seed: -1\n", "recipe.epochs=3")


@pytest.mark.parametrize("name", ["quickstrat", "cifar10", "resnet18"])
def test_unknown_studies_name_the_nearest(name: str) -> None:
    with pytest.raises(SpecError, match=r"neither a file nor a built-in study; did you mean '"):
        load(name)


def test_missing_files_and_unknown_builtins_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot read .*absent.yaml: No such file"):
        load(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match="there is no built-in study 'x'"):
        builtin_text("x")


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "just text\n", "3\n"])
def test_what_is_no_mapping_is_no_study(text: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match="a study file is a mapping"):
        load(path)


def test_a_launcher_file_is_recognised() -> None:
    with pytest.raises(SpecError, match="a file for Ray's launcher, not a study"):
        loads("cluster_name: x\nprovider: {type: aws}\n", "gpu.yaml")


def test_plugins_are_imported_before_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_pruner_plugin.py").write_text(
        "from typing import Literal\n"
        "from trainables.pruning import PRUNERS\n"
        "from trainables.pruning.base import Pruner\n"
        "class Mine(Pruner):\n"
        "    kind: Literal['mine_of_test'] = 'mine_of_test'\n"
        "    def scores(self, context):\n"
        "        return {name: w.abs() for name, w in context.weights.items()}\n"
        "PRUNERS.register('mine_of_test', Mine)\n"
    )
    (tmp_path / "my_hollow_plugin.py").write_text(
        "from typing import Literal\n"
        "from trainables.pruning import PRUNERS\n"
        "from trainables.pruning.base import Pruner\n"
        "class Hollow(Pruner):\n"
        "    kind: Literal['hollow_of_test'] = 'hollow_of_test'\n"
        "PRUNERS.register('hollow_of_test', Hollow)\n"
    )
    (tmp_path / "my_broken_plugin.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(PRUNERS, "_table", dict(PRUNERS._table))
    text = BASE + "  prune: {pruner: mine_of_test}\n"
    with pytest.raises(SpecError, match="unknown pruner 'mine_of_test'"):
        loads(text, "my.yaml")
    spec = loads(text + "plugins: [my_pruner_plugin]\n", "my.yaml")
    assert spec.trial({}).plugins == ("my_pruner_plugin",)
    with pytest.raises(
        SpecError,
        match=r"my.yaml:6:11 plugins\[0\]: the plug-in my_broken_plugin .*_plugin.py, line 1: ZeroDivisionError",
    ):
        study("plugins: [my_broken_plugin]\n")
    with pytest.raises(SpecError, match=r"my.yaml:6:11 plugins\[0\]: .* Hollow does not define `scores`"):
        study("plugins: [my_hollow_plugin]\n")
    with pytest.raises(SpecError, match=r"the plug-in no_such_plugin cannot be imported: ModuleNotFoundError"):
        study("plugins: [no_such_plugin]\n")
    with pytest.raises(
        SpecError, match=r"plugins\[0\]: '../x' is a path; a plug-in is named as in an import statement"
    ):
        study("plugins: [../x]\n")


@pytest.mark.slow
def test_reading_a_study_loads_nothing_heavy() -> None:
    code = (
        "import sys; from search.study.file import load; load('quickstart');"
        "print(sorted({'torch', 'ray', 'optuna', 'sklearn', 'scipy', 'numpy', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_study_from_a_dict_is_the_study_from_its_file() -> None:
    data = parse(builtin_text("quickstart"), "quickstart.yaml").data
    before = copy.deepcopy(data)
    assert from_dict(data) == load("quickstart")
    assert from_dict(data, overrides=["recipe.epochs=60"]) == load("quickstart", ["recipe.epochs=60"])
    assert data == before


def test_what_is_wrong_with_a_dict_is_named_by_its_key() -> None:
    data = parse(builtin_text("quickstart"), "quickstart.yaml").data
    with pytest.raises(SpecError, match=r"^notebook budget\.trails: unknown key; did you mean 'trials'"):
        from_dict({**data, "budget": {"trails": 3}}, name="notebook")
    with pytest.raises(SpecError, match="name: this key is required"):
        from_dict({})


OVERRIDES = ["recipe=imp", "recipe.train.attack.steps=3", "sampler.n_startup_trials=3", "early_stopping.kind=reach"]


def test_any_number_of_overrides_is_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    validated: list[StudySpec] = []
    check = spec_module.wrong_space

    def counting(*arguments: Any) -> Any:
        validated.append(arguments[0])
        return check(*arguments)

    monkeypatch.setattr(spec_module, "wrong_space", counting)
    spec = load("hydra-digits", [*OVERRIDES, "space={}", "enqueue=[]"])
    assert len(validated) == 1
    assert (spec.recipe.kind, spec.sampler, spec.early_stopping) == ("imp", Ehvi(n_startup_trials=3), Reach())
    assert spec.recipe.train.attack == RECIPES["imp"]().train.attack.model_copy(update={"steps": 3})  # type: ignore[union-attr]


def test_an_override_keeps_the_defaults_of_what_an_earlier_one_chose() -> None:
    spec = load("mad-digits", ["recipe=mad", "recipe.train.attack.steps=5"])
    published = RECIPES["mad"]().train
    assert spec.recipe.train == published.model_copy(update={"attack": spec.recipe.train.attack})
    assert spec.recipe.train.attack == published.attack.model_copy(update={"steps": 5})  # type: ignore[union-attr]


SPACE = (
    "space:\n  recipe.sparsity: {kind: float, low: 0, high: 0.9}\n  recipe.rate: {kind: float, low: 0.2, high: 0.5}\n"
)


@pytest.mark.parametrize("override", ["~space.recipe.rate", "space.recipe.rate=null"])
def test_an_override_removes_a_key(override: str) -> None:
    assert list(study(SPACE, override).space) == ["recipe.sparsity"]


def test_overrides_remove_sections_and_items_of_lists() -> None:
    text = "budget: {trials: 7}\nenqueue: [{recipe.sparsity: 0.1}, {recipe.sparsity: 0.2}]\n"
    text += "space: {recipe.sparsity: {kind: float, low: 0, high: 0.9}}\n"
    assert study(text, "~budget").budget.trials is None
    assert study(text, "~enqueue.0").enqueue == ({"recipe.sparsity": 0.2},)
    with pytest.raises(SpecError, match=r"--set ~space.recipe.sparsty: the study does not set .*did you mean"):
        study(text, "~space.recipe.sparsty")


def test_an_override_of_a_searched_field_fixes_it_and_says_so() -> None:
    notes: list[str] = []
    spec = load("quickstart", ["recipe.sparsity=0.7"], notes)
    assert spec.recipe.sparsity == 0.7
    assert "recipe.sparsity" not in spec.space
    assert [note.partition(";")[0] for note in notes] == [
        "--set recipe.sparsity=0.7: recipe.sparsity is fixed, and no longer searched"
    ]


def test_conditions_on_a_field_that_an_override_fixes_are_settled() -> None:
    notes: list[str] = []
    spec = load("wang2020-mnist", ["recipe.large=inherit"], notes)
    assert not spec.space["recipe.rest"].when
    assert len(notes) == 1
    spec = load("wang2020-mnist", ["recipe.large=equal_compute"], notes)
    assert "recipe.rest" not in spec.space
    assert notes[-1] == (
        "--set recipe.large=equal_compute: recipe.rest is not searched, as recipe.large is never 'inherit'"
    )
    spec = load("all-recipes", ["recipe.kind=imp"], notes)
    assert {path for path, parameter in spec.space.items() if parameter.when} == set()
    assert {"recipe.rewind", "recipe.rate"} < set(spec.space)


def test_an_override_of_a_field_that_some_trials_search_says_which() -> None:
    notes: list[str] = []
    spec = load("all-recipes", ["recipe.rewind=init"], notes)
    assert "recipe.rewind" in spec.space
    assert notes == [
        "--set recipe.rewind=init: recipe.rewind is still searched in trials with {'recipe.kind': 'imp'}; "
        "add --set '~space.recipe.rewind' to fix it in these too"
    ]


def test_paths_in_a_dict_are_texts_and_what_no_file_holds_is_named() -> None:
    data = parse(builtin_text("quickstart"), "quickstart.yaml").data
    assert from_dict({**data, "data": {"kind": "digits", "root": Path("/d")}}).data.root == "/d"
    with pytest.raises(SpecError, match=r"study seed: a value of type object; numbers, texts"):
        from_dict({**data, "seed": object()})
    with pytest.raises(SpecError, match=r"study seed: a whole number beyond 64 bits"):
        from_dict({**data, "seed": 10**5000})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schema=true", "valid integer"),
        ("deterministic='yes'", "write true or false"),
        ("recipe.epochs=1e5", "write 100000, without a point or an exponent"),
        ("budget.trials=true", "valid integer"),
        ("recipe.train.eps=８/255", "neither a number nor a fraction"),
        ("budget.wall_time=１h", "is not a time"),
        ("stage_storage=1" + "0" * 60 + "TB", "must be less than"),
        ("seed=18446744073709551616", "64 bits"),
        ("budget.trials=1000000000000", "less than"),
    ],
)
def test_scalars_are_taken_only_as_they_are_written(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        study("", override)


def test_rounds_are_counted_and_not_built() -> None:
    with pytest.raises(SpecError, match=r"recipe.rate: a rate of 1e-09 takes .* rounds .*500 are allowed"):
        study("  rate: 1e-9\n")


@pytest.mark.slow
def test_every_part_of_the_front_of_cifar10_runs_shortened_on_a_cpu(tmp_path: Path) -> None:
    """Its grid, with all that it sets but lengths, radius, network and images: digits, which are not cropped."""
    study = load("cifar10-resnet18-front")
    train = study.recipe.train
    short = train.model_copy(
        update={"select": 60, "crop": 0, "flip": False, "eps": Eps(0.1), "awp_warmup": 0.5, "precision": "fp32"}
    )
    lengths = {"epochs": 2, "prune_epochs": 1, "finetune_epochs": 1, "rewind": 1, "rate": 0.6}
    every = [dict(params) for params in Grid().every(study.space)]
    assert len(every) == 12
    data = tensors.load(DATASETS.parse({"kind": "digits", "limit": 300, "validation": 60}))
    for params in every:
        trial = study.trial(params)
        assert trial.recipe.train.model_copy(update={"schedule": train.schedule}) == train
        fields = {name: value for name, value in lengths.items() if name in type(trial.recipe).model_fields}
        recipe = trial.recipe.model_copy(update={**fields, "train": short})
        if params["recipe.kind"] == "flying_bird":
            recipe = recipe.model_copy(update={"dynamics": recipe.dynamics.model_copy(update={"every": 1})})
        made: dict[str, Any] = {"recipe": recipe, "model": MODELS.parse({"kind": "lenet300", "hidden": [30, 20]})}
        protocol = study.protocol.cheaper(30, 2)
        spec = trial.model_copy(update={**made, "protocol": protocol, "data": DATASETS.parse("digits")})
        run = Run(spec, data, Stages(Storage(str(tmp_path))), 0, "front", torch.device("cpu"))
        points = [now.point for now in run.progress() if now.point is not None]
        prunable = 64 * 30 + 30 * 20 + 20 * 10
        wanted = round(params["recipe.sparsity"] * prunable) / prunable
        # What Flying Bird has just grown may still be 0.
        assert wanted <= points[-1].sparsity <= wanted + (0.02 if params["recipe.kind"] == "flying_bird" else 0)
