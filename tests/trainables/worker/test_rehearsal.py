"""Networks as people write them: a trial completes and its saved network has equal logits, or the probe refuses it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import nn

from tests.trainables.worker import zoo
from trainables.attacks.pgd import Pgd
from trainables.core.errors import SpecError
from trainables.core.spec import plain
from trainables.data import tensors
from trainables.export import saved
from trainables.losses.cross_entropy import Natural
from trainables.metrics.base import Metric, MetricContext
from trainables.models import MODELS
from trainables.models.base import Model
from trainables.optimisers.sgd import Sgd
from trainables.pruning.base import PrunerContext
from trainables.pruning.scores import Magnitude
from trainables.recipes.trial import TrialSpec
from trainables.store import paths
from trainables.store.stages import Stages
from trainables.store.storage import Storage
from trainables.worker.probe import NAME, probe
from trainables.worker.rehearsal import run_small
from trainables.worker.run import Run

ROOT = Path(__file__).parents[3]
DATA = {"kind": "digits", "validation": 60, "limit": 65}
BATCH = 32
assert DATA["limit"] % BATCH == 1, "the last batch has one image"


QUICK = {
    "weight_norm",
    "temporary_buffer",
    "plain_tensor",
    "batch_norm_of_features",
    "reads_its_version",
    "auxiliary_head_in_training",
    "replaced_buffer",
    "exits_when_built",
    "cannot_be_copied",
    "layers_in_a_plain_list",
    "squeezed_logits",
}


def marked(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


class FromZoo(Model):
    """A network of the zoo."""

    kind: Literal["zoo"] = "zoo"
    name: str

    def network(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        build = zoo.WORKS.get(self.name) or zoo.REFUSED[self.name][0]
        return build(shape, classes)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(MODELS, "_table", {**MODELS._table, "zoo": FromZoo})
    before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_rng_state()
    yield
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == before[:2]


def trial(name: str, **train: Any) -> TrialSpec:
    attack = {"kind": "pgd", "steps": 1}
    fields = {"batch": BATCH, "optimiser": {"kind": "adam"}, "eps": 0.05, "attack": attack, "precision": "fp32"}
    return TrialSpec.model_validate(
        {
            "model": {"kind": "zoo", "name": name},
            "recipe": {
                "kind": "three_stage",
                "epochs": 1,
                "finetune_epochs": 1,
                "sparsity": 0.5,
                "train": {**fields, **train},
            },
            "data": DATA,
            "protocol": {"eps": 0.05, "attack": attack},
            "seed": 3,
        }
    )


def asked(spec: TrialSpec, folder: Path, silence: float | None = None) -> dict[str, Any]:
    (folder / paths.DRIVER).write_text("{}")
    pruner = plain(spec.recipe.prune.pruner)  # type: ignore[attr-defined]
    networks = [(plain(spec.model), [pruner])]
    return probe(plain(spec.data), networks, str(folder), [], "fp32", 0, [plain(spec)], silence)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch.compile
@pytest.mark.parametrize("name", marked(zoo.WORKS))
def test_a_trial_completes_and_its_saved_network_has_equal_logits(name: str, study_folder: Path) -> None:
    spec = trial(name)
    found = asked(spec, study_folder)
    assert "error" not in found, found["error"]
    data = tensors.load(spec.data)
    stages = Stages(Storage(str(study_folder)))
    run = Run(spec, data, stages, 0, "study", torch.device("cpu"))
    points = [progress.point for progress in run.progress() if progress.point is not None]
    share = found["networks"][0]
    assert [point.prunable for point in points] == [share["prunable"]] * 2
    assert points[-1].nonzero == share["prunable"] - round(0.5 * share["prunable"])
    assert "buffers_changed" not in points[-1].flags
    assert "nondeterministic" not in points[-1].flags
    state = stages.load(points[-1].stage)
    assert state is not None
    card = {"model": plain(spec.model), "shape": list(data.shape), "classes": data.classes}
    again = saved.load(saved.save(study_folder / "saved", state, card))
    net = state.into(run.network()).eval()
    with torch.no_grad():
        images = data.validation.pixels()
        assert torch.equal(again(images), net(images))
        right = int((net(images).argmax(dim=1) == data.validation.y).sum())
    assert abs(right - points[-1].clean_correct) <= 1, "another memory format may round a logit differently"


@pytest.mark.parametrize("name", marked(zoo.REFUSED))
def test_a_network_that_no_trial_can_use_is_refused_before_the_first(name: str, study_folder: Path) -> None:
    found = asked(trial(name), study_folder)
    assert found.get("exit_code") == 2
    assert zoo.REFUSED[name][1] in found["error"]


HANGS: dict[str, Callable[[nn.Module, Any], object]] = {
    "cannot be built": lambda module, inputs: torch.is_grad_enabled(),
    "cannot be trained": lambda module, inputs: module.training,
    "fails (measure)": lambda module, inputs: inputs[0].requires_grad,
}
"""Where a network hangs, with the condition under which its first layer does."""


@pytest.mark.slow
@pytest.mark.parametrize("where", HANGS)
def test_a_network_that_hangs_is_refused_with_the_line(
    where: str, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(module: nn.Module, inputs: Any) -> None:
        while HANGS[where](module, inputs):
            time.sleep(0.01)

    def build(shape: tuple[int, int, int], classes: int) -> nn.Module:
        if where == "cannot be built":
            hang(nn.Module(), ())
        net = zoo.Net(shape, classes)
        net.register_forward_pre_hook(hang)
        return net

    monkeypatch.setitem(zoo.WORKS, "hanging", build)
    spec = trial("hanging")
    # What is imported for the first time is not a hang.
    tensors.load(spec.data) if where == "cannot be built" else asked(trial("unused_layer"), study_folder)
    found = asked(spec, study_folder, silence=1)
    assert found["exit_code"] == 2
    said = found["error"].partition(f"{where}: TimedOut: {NAME} showed no progress for 1 s, ")[2]
    assert said.startswith("the limit timeouts.silence of the study: worker/test_rehearsal.py, line ")
    assert said.endswith(", in hang")
    assert [path.name for path in study_folder.iterdir()] == [paths.DRIVER]


class Faulty:
    """What plug-ins may get wrong, each seen by a small trial alone."""

    class Attack(Pgd):
        kind: Literal["faulty"] = "faulty"  # type: ignore[assignment]

        def perturb(self, *arguments: Any, **named: Any) -> torch.Tensor:
            raise IndexError("no such step")

    class Pruner(Magnitude):
        kind: Literal["faulty"] = "faulty"  # type: ignore[assignment]

        def scores(self, context: PrunerContext) -> dict[str, torch.Tensor]:
            return {name: weight[:1] for name, weight in context.weights.items()}

    class Metric(Metric):
        kind: Literal["faulty"] = "faulty"

        def values(self, context: MetricContext) -> dict[str, float]:
            return {"mine": 1 / len(context.x[:0])}

    class Loss(Natural):
        kind: Literal["faulty"] = "faulty"  # type: ignore[assignment]

        def terms(self, *arguments: Any, **named: Any) -> Any:
            raise SystemExit(1)

    class Optimiser(Sgd):
        kind: Literal["faulty"] = "faulty"  # type: ignore[assignment]

        def build(self, params: Any) -> torch.optim.Optimizer:
            raise TypeError("no parameters")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe.train.attack": Faulty.Attack()}, "fails (train): IndexError: no such step"),
        ({"protocol.attack": Faulty.Attack()}, "fails (measure): IndexError: no such step"),
        ({"protocol.metrics": (Faulty.Metric(),)}, "fails (measure): ZeroDivisionError"),
        ({"recipe.prune.pruner": Faulty.Pruner()}, "fails (prune): ValueError: the pruner's scores"),
        ({"recipe.train.loss": Faulty.Loss()}, "fails (train): SystemExit: 1"),
        ({"recipe.train.optimiser": Faulty.Optimiser(lr=0.1)}, "fails (train): TypeError: no parameters"),
    ],
)
def test_what_only_a_trial_runs_is_refused_with_its_phase(changes: dict[str, Any], message: str) -> None:
    spec: Any = trial("odd_names")
    for path, value in changes.items():
        spec = changed(spec, path.split("."), value)
    with pytest.raises(SpecError) as refusal:
        run_small(spec, tensors.load(spec.data), torch.device("cpu"))
    start = "a small trial of the recipe three_stage with the network odd_names "
    assert str(refusal.value).startswith(start + message)


class Returning(Pgd):
    """An attack that returns what `result` makes of the images and the labels."""

    kind: Literal["wrong"] = "wrong"  # type: ignore[assignment]
    result: ClassVar[Any] = None

    def perturb(self, logits_fn: Any, x: torch.Tensor, y: torch.Tensor, **named: Any) -> torch.Tensor:
        found: torch.Tensor = self.result(x, y)
        return found


class Scoring(Magnitude):
    """A pruner whose scores are what `result` makes of its context."""

    kind: Literal["wrong"] = "wrong"  # type: ignore[assignment]
    result: ClassVar[Any] = None

    def scores(self, context: PrunerContext) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = self.result(context)
        return found


class Valuing(Metric):
    """A metric whose values are what `result` makes of its context."""

    kind: Literal["wrong"] = "wrong"
    result: ClassVar[Any] = None

    def values(self, context: MetricContext) -> dict[str, float]:
        found: dict[str, float] = self.result(context)
        return found


def zeroed(tensors: Iterable[torch.Tensor], result: Any) -> Any:
    for tensor in tensors:
        tensor.zero_()
    return result


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        (
            "attack",
            lambda x, y: x[:1, :1],
            "the attack wrong returns float32 (1, 1, 8, 8) on cpu for images float32 (2,",
        ),
        ("attack", lambda x, y: x.to(torch.uint8), "the attack wrong returns uint8 (2, 1, 8, 8) on cpu for images"),
        ("attack", lambda x, y: (x, y), "the attack wrong returns a tuple, not a tensor of images"),
        ("attack", lambda x, y: zeroed([x], x), "the attack wrong changes the images in place; let it work on a copy"),
        ("attack", lambda x, y: zeroed([y], x), "the attack wrong changes the labels in place"),
        ("pruner", lambda c: None, "ValueError: the pruner returned a NoneType, not a dictionary"),
        (
            "pruner",
            lambda c: dict.fromkeys(c.weights, 1.0),
            "ValueError: the pruner's scores for net.1.weight are not ",
        ),
        ("pruner", lambda c: zeroed(c.weights.values(), c.weights), "the pruner wrong changes the weight net.1.weight"),
        ("pruner", lambda c: zeroed(c.masks.values(), c.weights), "the pruner wrong changes the mask of net.1.weight"),
        ("metric", lambda c: None, "the metric wrong returns a NoneType, not a dictionary of numbers by name"),
        ("metric", lambda c: {"a": "b"}, "the metric wrong returns a str named 'a'"),
        ("metric", lambda c: {"a": torch.ones(2)}, "the metric wrong returns a Tensor named 'a'"),
        ("metric", lambda c: {1: 1.0}, "the metric wrong returns a float named 1"),
        ("metric", lambda c: {"a\n": 1.0}, "the metric wrong returns a float named 'a\\n'"),
        ("metric", lambda c: zeroed([c.x], {}), "the metric wrong changes the images in place"),
        ("metric", lambda c: zeroed(c.state.params.values(), {}), "the metric wrong changes net."),
    ],
)
def test_a_wrong_result_or_a_changed_input_is_refused(
    path: str, kind: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec: Any = TrialSpec.model_validate({**plain(trial("odd_names")), "model": {"kind": "lenet300", "hidden": [8]}})
    kinds: dict[str, tuple[str, Any, Any]] = {
        "attack": ("protocol.attack", Returning, Returning()),
        "pruner": ("recipe.prune.pruner", Scoring, Scoring()),
        "metric": ("protocol.metrics", Valuing, (Valuing(),)),
    }
    at, faulty, value = kinds[path]
    monkeypatch.setattr(faulty, "result", staticmethod(kind))
    with pytest.raises(SpecError) as refusal, torch.no_grad():
        run_small(changed(spec, at.split("."), value), tensors.load(spec.data), torch.device("cpu"))
    assert f"): {message}" in str(refusal.value)


def changed(spec: Any, path: list[str], value: Any) -> Any:
    """Return a spec with another value at a path."""
    field, *rest = path
    inner = changed(getattr(spec, field), rest, value) if rest else value
    return spec.model_copy(update={field: inner})


def test_a_batch_of_one_is_refused_where_batch_norm_cannot_train_on_it(study_folder: Path) -> None:
    found = asked(trial("batch_norm_of_features", batch=1), study_folder)
    assert "set recipe.train.batch above 1" in found["error"]
    assert "error" not in asked(trial("grouped_convolutions", batch=1), study_folder)


def test_a_small_trial_leaves_no_trace_in_global_state() -> None:
    spec = trial("attention")
    before = torch.get_rng_state()
    run_small(spec, tensors.load(spec.data), torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_neither_a_rehearsal_nor_a_measurement_of_a_perceptron_loads_sympy() -> None:
    """It takes a third of a second, which torch spends when a gradient is weighted."""
    code = """
import sys
from dataclasses import replace
import torch
from trainables import models
from trainables.data import tensors
from trainables.measure.evaluate import measure
from trainables.recipes.trial import TrialSpec
from trainables.store.state import State
from trainables.worker.rehearsal import rehearse
trial = TrialSpec.model_validate({
    "data": {"kind": "digits", "validation": 60},
    "model": {"kind": "lenet300", "hidden": [8]},
    "recipe": {"kind": "imp", "sparsity": 0.5, "rate": 0.5, "train": {"precision": "fp32"}},
    "protocol": {"eps": 0.001, "attack": {"kind": "worst", "attacks": ["apgd-ce", {"kind": "apgd-t", "targets": 2}]}},
    "seed": 0,
})
data = tensors.load(trial.data)
rehearse([trial], data, torch.device("cpu"))
net = models.build(trial.model, shape=data.shape, classes=10, mean=data.mean, std=data.std, seed=0)
split = replace(data.validation, y=net(data.validation.pixels()).argmax(dim=1))
found = measure(net, State.of(net), trial.protocol, split, device="cpu")
print(found.robust_correct.any(), "sympy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["True", "False"]
