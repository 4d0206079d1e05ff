from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from tests.trainables.measure.factories import EPS, PIXELS, QUICK, SPLIT, bands, linear, measured, split_of
from tests.trainables.models.factories import SHAPE, small_state, trained_net
from trainables import attacks
from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Fgsm, Pgd
from trainables.core.errors import SpecError
from trainables.core.rng import derive
from trainables.core.spec import Eps, plain
from trainables.data.tensors import Split
from trainables.measure import evaluate, sanity_checks
from trainables.measure.evaluate import measure
from trainables.measure.sanity_checks import SEVERITY
from trainables.method.protocol import Protocol
from trainables.metrics.base import Metric, MetricContext
from trainables.metrics.weights import Weights
from trainables.models.normalised import Normalised
from trainables.store.state import FORCED, State


class Through(nn.Module):
    """The healthy linear classifier with something done to its input and to its output."""

    def __init__(
        self,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda logits: logits,
        scale: float = 50.0,
    ) -> None:
        super().__init__()
        self.net = linear(scale=scale)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(self.before(x)))


def test_healthy_network_raises_no_flag() -> None:
    result = measured(linear())
    assert (result.flags, result.status) == ((), "ok")
    assert 0.05 < result.robust_correct.mean() < 0.95 < result.clean_correct.mean()


@pytest.mark.parametrize("attack", [Pgd(steps=20), Fgsm(random_start=False, step_size=1.0)])
def test_robust_accuracy_of_a_linear_two_class_network_is_the_closed_form(attack: Attack) -> None:
    split = split_of(classes=2)
    model = linear(classes=2)
    weight, bias = (p.detach() for p in model.parameters())
    x = split.pixels()
    # Nothing touches the box, so the worst shift of the margin is eps times the l1 norm of the weight difference.
    assert x.min() >= EPS
    assert x.max() <= 1 - EPS
    sign = 1.0 - 2.0 * split.y
    margin = sign * (x.flatten(1) @ (weight[0] - weight[1]) + bias[0] - bias[1])
    expected = (margin > EPS * (weight[0] - weight[1]).abs().sum()).numpy()
    result = measured(model, Protocol(attack=attack, eps=EPS), split)
    assert 0.1 < expected.mean() < 0.9
    assert np.array_equal(result.robust_correct, expected)
    assert np.array_equal(result.clean_correct, (margin > 0).numpy())


def test_l2_robust_accuracy_is_the_closed_form() -> None:
    split, model, eps = split_of(classes=2), linear(classes=2), 0.6
    weight = next(model.parameters()).detach()
    difference = weight[0] - weight[1]
    margin = (1.0 - 2.0 * split.y) * (split.pixels().flatten(1) @ difference)
    expected = (margin > eps * difference.norm()).numpy()
    # The attack moves every pixel by this much, which the box allows.
    assert eps / difference.norm() * difference.abs().max() <= 0.15
    result = measured(model, Protocol(attack=Pgd(norm="l2", steps=20), eps=eps), split)
    assert 0.1 < expected.mean() < 0.9
    assert np.array_equal(result.robust_correct, expected)


def test_a_radius_of_nothing_leaves_the_clean_verdicts() -> None:
    result = measured(linear(), Protocol(attack=Pgd(steps=3), eps=0.0))
    assert np.array_equal(result.robust_correct, result.clean_correct)


@pytest.mark.parametrize("chunk", [1, 64, 300, 1000])
def test_verdicts_of_an_attack_without_randomness_depend_on_no_chunking(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = Protocol(attack=Pgd(steps=5, random_start=False), eps=EPS, examples=150)
    expected = measured(linear(), protocol)
    monkeypatch.setitem(evaluate.CHUNK, "cpu", chunk)
    result = measured(linear(), protocol)
    assert np.array_equal(result.robust_correct, expected.robust_correct)
    assert np.array_equal(result.clean_correct, expected.clean_correct)


class Watched(Attack):
    """Notes the draws it is given and attacks nothing."""

    kind: Literal["recorded"] = "recorded"

    def perturb(self, logits_fn, x, y, *, eps, generator, start=None):  # type: ignore[no-untyped-def]
        DRAWN.append(torch.rand(len(x), generator=generator))
        return x.clone()


DRAWN: list[Tensor] = []


class Helpful(Attack):
    """Brightens the band of the image's class."""

    kind: Literal["helpful"] = "helpful"

    def perturb(self, logits_fn, x, y, *, eps, generator, start=None):  # type: ignore[no-untyped-def]
        own = bands().weight.detach()[y].reshape(x.shape) > 0
        return torch.where(own, x + eps, x - eps)


@pytest.fixture(autouse=True)
def _attacks_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ATTACKS, "_table", {**ATTACKS._table, "recorded": Watched, "helpful": Helpful})


def draws(model: nn.Module, protocol: Protocol) -> list[Tensor]:
    DRAWN.clear()
    measured(model, protocol)
    return list(DRAWN)


def test_every_network_meets_the_same_draws() -> None:
    protocol = Protocol(attack=Watched(), eps=EPS)
    torch.manual_seed(1)
    good = draws(linear(), protocol)
    torch.manual_seed(2)
    bad = draws(Through(before=lambda x: x.flip(2)), protocol)
    assert len(good) == len(bad) == 3
    assert all(torch.equal(a, b) for a, b in zip(good, bad, strict=True))
    assert not torch.equal(good[0], good[1])
    other = draws(linear(), protocol.model_copy(update={"seed": 1}))
    assert not torch.equal(good[0], other[0])


def test_global_generator_and_module_are_left_as_they_were() -> None:
    model = Normalised(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3)), None)
    model.train()
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    elsewhere = State.of(model)
    measured(model, params={name: p + 1 for name, p in elsewhere.params.items()})
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_measures_the_state_not_the_module() -> None:
    model = linear()
    with torch.no_grad():
        named = (model(SPLIT.pixels()).argmax(dim=1) + 1) % 3
    rolled = {name: p.roll(1, dims=0) for name, p in State.of(model).params.items()}
    assert np.array_equal(measured(model, params=rolled).clean_correct, (named == SPLIT.y).numpy())


def test_examples_are_the_first_of_the_split() -> None:
    whole = measured(linear())
    some = measured(linear(), QUICK.model_copy(update={"examples": 130}))
    assert len(some.clean_correct) == 130
    assert np.array_equal(some.clean_correct, whole.clean_correct[:130])
    with pytest.raises(SpecError, match="the split has 300 images"):
        measured(linear(), QUICK.model_copy(update={"examples": 301}))


def test_nothing_is_robust_where_nothing_is_right() -> None:
    third = Through(after=lambda logits: logits + torch.tensor([0.0, 0.0, 1e3]))
    result = measured(third, split=split_of(classes=2))
    assert result.clean_correct.sum() == result.robust_correct.sum() == 0
    assert "at_chance" in result.flags


def test_an_example_that_only_the_attack_puts_right_is_not_robust() -> None:
    biased = Through(after=lambda logits: logits + torch.tensor([3.0, 0.0, 0.0]))
    result = measured(biased, Protocol(attack=Helpful(), eps=EPS))
    assert 0.4 < result.clean_correct.mean() < 0.9
    assert np.array_equal(result.robust_correct, result.clean_correct)


def test_measures_in_eval_mode() -> None:
    model = Normalised(nn.Sequential(nn.Flatten(), nn.Dropout(0.9), bands(), nn.BatchNorm1d(3)), None)
    result = measured(model.train())
    assert result.flags == ()
    with torch.no_grad():
        expected = model.eval()(SPLIT.pixels()).argmax(dim=1) == SPLIT.y
    assert np.array_equal(result.clean_correct, expected.numpy())


class Noting(nn.Module):
    """Notes whether weights and inputs are channels_last."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 8, 3)
        self.linear = nn.Linear(128, 3)

    def forward(self, x: Tensor) -> Tensor:
        LAST.append(self.convolution.weight.is_contiguous(memory_format=torch.channels_last))
        LAST.append(x.is_contiguous(memory_format=torch.channels_last))
        return self.linear(self.convolution(torch.cat([x, 1 - x], dim=1)).relu().flatten(1))


LAST: list[bool] = []


def test_memory_format_of_the_module_changes_nothing() -> None:
    torch.manual_seed(0)
    model = Noting()
    LAST.clear()
    one = measured(model)
    two = measured(copy.deepcopy(model).to(memory_format=torch.channels_last))
    assert all(LAST)
    assert np.array_equal(one.robust_correct, two.robust_correct)
    assert one.weights_sha256 == two.weights_sha256


def test_counts_living_weights_and_their_macs() -> None:
    model = linear()
    name = "net.1.weight"
    mask = torch.zeros(3, PIXELS, dtype=torch.bool)
    mask[:, :10] = True
    state = replace(State.of(model), masks={name: mask}).masked()
    result = measure(model, state, QUICK, SPLIT, device="cpu")
    living = int(torch.count_nonzero(state.params[name]))
    assert (result.nonzero, result.prunable) == (living, 3 * PIXELS)
    assert (result.macs_dense, result.macs_effective) == (3 * PIXELS, living)
    assert result.weights_sha256 == state.weights_sha256()
    assert "masks_broken" not in result.flags


class Counting(Through):
    """Counts its passes in a buffer even in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(x)


def rounded(x: Tensor) -> Tensor:
    return (x * 12).round() / 12


SUSPICIOUS: dict[str, tuple[Callable[[], nn.Module], Protocol]] = {
    "non_finite_logits": (lambda: Through(after=lambda z: z / (z > 9)), QUICK),
    "buffers_changed": (Counting, QUICK),
    "at_chance": (lambda: Through(before=lambda x: x.flip(2), after=lambda z: -z.roll(1, 1)), QUICK),
    "zero_gradient": (lambda: Through(before=rounded), QUICK),
    "softmax_output": (lambda: Through(after=lambda z: z.softmax(1)), QUICK),
    "nondeterministic": (lambda: Through(after=lambda z: z + 0.01 * torch.rand_like(z)), QUICK),
    "random_noise_stronger": (lambda: Through(before=rounded, scale=2.0), QUICK),
    "weaker_than_fgsm": (linear, Protocol(attack=Pgd(steps=1, step_size=0.01, random_start=False), eps=EPS)),
}


@pytest.mark.parametrize("flag", sorted(SUSPICIOUS))
def test_suspicious_network_raises_its_flag(flag: str) -> None:
    build, protocol = SUSPICIOUS[flag]
    result = measured(build(), protocol)
    assert flag in result.flags
    assert result.status == ("invalid" if "invalid" in {SEVERITY[f] for f in result.flags} else "warn")


def test_a_network_without_its_pruned_filters_that_changes_while_it_is_measured_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = linear()
    for smaller, changed in ((Through(), False), (Counting(), True)):
        monkeypatch.setattr(evaluate, "_smaller", lambda *_, smaller=smaller: smaller.eval())
        result = measure(model, State.of(model), QUICK, SPLIT, device="cpu", shrunk=True)
        assert ("buffers_changed" in result.flags) == changed


def test_large_logits_mask_the_gradient() -> None:
    result = measured(linear(scale=1e6))
    assert "zero_gradient" in result.flags
    assert result.robust_correct.mean() > measured(linear()).robust_correct.mean()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_gradients_that_are_not_numbers_are_none(norm: Any) -> None:
    """The logits are those of a network that the attack breaks; the slope of the root at 0 hides how."""
    result = measured(Through(after=lambda z: z + (z - z).abs().sqrt()), Protocol(attack=Pgd(norm=norm), eps=EPS))
    assert {"zero_gradient", "no_gradient"} <= set(result.flags)
    assert "non_finite_logits" not in result.flags, "the attack has made no such images"


def test_constant_network_is_at_chance_with_zero_gradients() -> None:
    result = measured(Through(after=lambda z: z * 0 + torch.tensor([0.0, 1.0, 0.0])))
    assert {"at_chance", "zero_gradient"} <= set(result.flags)
    assert np.array_equal(result.clean_correct, SPLIT.y.numpy() == 1)


def test_network_without_any_path_from_its_input_is_measured() -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.zeros(len(x), 1))

    model = Deaf()
    protocol = Protocol(attack=Fgsm(), eps=0.0)
    assert "zero_gradient" in measured(model, protocol).flags


def test_dead_layer_and_broken_masks_are_seen_in_the_state() -> None:
    model = Normalised(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4), nn.ReLU(), nn.Linear(4, 3)), None)
    state = State.of(model)
    dead = {**state.params, "net.3.weight": torch.zeros(3, 4)}
    flags = measured(model, params=dead).flags
    assert "dead_layer" in flags
    assert "masks_broken" not in flags
    masks = {**state.masks, "net.1.weight": torch.ones(4, PIXELS).bool().tril()}
    result = measured(model, masks=masks)
    assert "masks_broken" in result.flags
    assert result.status == "invalid"


@pytest.mark.parametrize(("forced", "flagged"), [(0.04, False), (0.06, True)])
def test_a_budget_that_a_training_did_not_reach_is_seen_in_the_state(forced: float, flagged: bool) -> None:
    model = Normalised(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 3)), None)
    state = replace(State.of(model), notes={FORCED: torch.tensor(forced)})
    assert ("budget_missed" in sanity_checks.of_state(state)) == flagged


def test_logits_that_are_not_finite_are_wrong() -> None:
    def spoil(logits: Tensor) -> Tensor:
        # The greatest entry becomes infinite: its place still names the right class.
        return torch.where(logits == logits.amax(1, keepdim=True), float("inf"), logits)

    result = measured(Through(after=spoil))
    assert result.clean_correct.sum() == 0
    assert result.status == "invalid"


def test_logits_that_only_the_attack_makes_infinite_are_seen() -> None:
    class Overflowing(Through):
        def forward(self, x: Tensor) -> Tensor:
            bright = x.amax(dim=(1, 2, 3)) > 0.9
            return torch.where(bright[:, None], float("inf"), super().forward(x))

    assert SPLIT.pixels().max() <= 0.9
    result = measured(Overflowing())
    assert result.clean_correct.mean() > 0.9
    assert "non_finite_logits" in result.flags


def test_arithmetic_is_float32_inside_and_as_it_was_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = torch.backends.cudnn.conv
    before = (conv.fp32_precision, torch.backends.cudnn.deterministic)
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append((conv.fp32_precision, torch.is_autocast_enabled("cpu"), x.dtype))
        return x

    with torch.autocast("cpu", torch.bfloat16):
        measured(Through(before=look))
    assert set(seen) == {("ieee", False, torch.float32)}
    assert (conv.fp32_precision, torch.backends.cudnn.deterministic) == before
    # Torch refuses this where the new settings disagree with each other.
    assert isinstance(torch.backends.cudnn.allow_tf32, bool)


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_verdicts_survive_packing(verdicts: list[bool]) -> None:
    text = evaluate.pack_verdicts(np.array(verdicts))
    assert evaluate.unpack_verdicts(text, len(verdicts)).tolist() == verdicts


def test_verdicts_are_packed_big_endian() -> None:
    assert evaluate.pack_verdicts(np.array([True] + [False] * 7 + [True, True])) == "80c0"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_and_cpu_give_the_same_verdicts_where_nothing_is_drawn() -> None:
    torch.manual_seed(0)
    model = Normalised(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 3)), None)
    protocol = Protocol(attack=Pgd(steps=5, random_start=False), eps=0.02)
    here = measured(model, protocol)
    split = Split(SPLIT.x.cuda(), SPLIT.y.cuda(), SPLIT.scale)
    there = measure(model.cuda(), State.of(model.cuda()), protocol, split, device="cuda")
    assert (here.robust_correct != there.robust_correct).mean() <= 0.01
    assert here.weights_sha256 == there.weights_sha256


def test_what_is_not_checked_raises_no_flag_and_measures_the_same() -> None:
    model = Through(after=lambda z: z.softmax(1))
    whole = measured(model)
    bare = measure(model, State.of(model), QUICK, SPLIT, device="cpu", checked=False)
    assert whole.flags
    assert (bare.flags, bare.status) == ((), "ok")
    assert np.array_equal(bare.robust_correct, whole.robust_correct)
    assert (bare.nonzero, bare.macs_effective) == (whole.nonzero, whole.macs_effective)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("restarts", [1, 3])
def test_the_first_steps_of_an_attack_break_no_example_that_all_of_them_do_not(
    norm: Literal["linf", "l2"], restarts: int
) -> None:
    """Also where fewer examples are taken, up to a whole chunk: draws and steps are the same."""
    model = linear(scale=8.0)
    eps = EPS if norm == "linf" else 0.8
    full = Protocol(attack=Pgd(norm=norm, steps=20, restarts=restarts), eps=eps)
    all_of_it = measured(model, full).robust_correct
    for examples in (128, 256):
        few = measured(model, full.cheaper(examples, 3)).robust_correct
        assert len(few) == examples
        assert not (all_of_it[:examples] & ~few).any()
        assert few.mean() > all_of_it[:examples].mean()


SPARING: list[Any] = [
    {"kind": "pgd", "loss": "margin"},
    {"kind": "apgd-ce", "steps": 20},
    {"kind": "worst", "attacks": ["pgd", {"kind": "apgd-t", "steps": 10}]},
]


@pytest.mark.parametrize("attack", SPARING)
def test_an_attack_that_spares_what_is_broken_measures_what_it_would_of_all_images(attack: Any) -> None:
    protocol = Protocol.model_validate({"attack": attack, "eps": EPS})
    model = linear(scale=8.0)
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    found = measure(model, State.of(model), protocol, SPLIT, device="cpu", checked=False)
    spared = sum(sizes)
    sizes.clear()
    robust = []
    for first in range(0, len(SPLIT), evaluate.CHUNK["cpu"]):
        part = slice(first, first + evaluate.CHUNK["cpu"])
        x, y = SPLIT.pixels(part), SPLIT.y[part]
        generator = torch.Generator().manual_seed(derive("protocol", 0, first))
        result = attacks.run(protocol.attack, model, x, y, eps=EPS, generator=generator)
        robust.append((model(result).argmax(1) == y) & (model(x).argmax(1) == y))
    assert np.array_equal(found.robust_correct, torch.cat(robust).numpy())
    assert 0.05 < found.robust_correct.mean() < 0.95
    assert spared < 0.9 * sum(sizes)


def test_chunks_of_a_perceptron_measure_together_what_they_measure_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Normalised(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 16), nn.ReLU(), nn.Linear(16, 3)), None)
    split = replace(SPLIT, y=model(SPLIT.pixels()).argmax(dim=1))
    attack = {"kind": "pgd", "loss": "margin", "steps": 2, "step_size": 0.3}
    protocol = Protocol.model_validate({"attack": attack, "eps": 0.05})
    real, sizes = attacks.hunt, []

    def counted(*args: Any, **named: Any) -> Tensor:
        sizes.append(len(args[2]))
        return real(*args, **named)

    monkeypatch.setattr(attacks, "hunt", counted)
    found = [measure(model, State.of(model), protocol, split, device="cpu", checked=False)]
    monkeypatch.setattr(evaluate, "TOGETHER", 0)
    found.append(measure(model, State.of(model), protocol, split, device="cpu", checked=False))
    assert sizes == [300, 128, 128, 44]
    assert np.array_equal(found[0].robust_correct, found[1].robust_correct)
    assert np.array_equal(found[0].clean_correct, found[1].clean_correct)
    # The draws of the chunks matter: with others, other images stand.
    monkeypatch.setitem(evaluate.CHUNK, "cpu", 300)
    others = measure(model, State.of(model), protocol, split, device="cpu", checked=False)
    assert not np.array_equal(found[0].robust_correct, others.robust_correct)


@pytest.mark.slow
@pytest.mark.parametrize("attack", SPARING)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_first_steps_of_an_attack_that_spares_break_no_example_that_all_of_them_do_not(
    attack: dict[str, Any], norm: str
) -> None:
    model = linear(scale=8.0)
    full = Protocol.model_validate({"attack": {"norm": norm, **attack}, "eps": EPS if norm == "linf" else 0.8})
    all_of_it = measured(model, full).robust_correct
    for examples in (128, 256):
        few = measured(model, full.cheaper(examples, 1)).robust_correct
        assert not (all_of_it[:examples] & ~few).any()
        # In l_inf, the first step of APGD decides a linear network.
        assert norm == "linf" or few.mean() > all_of_it[:examples].mean()


class Seen(Metric):
    """Return values read from the context."""

    kind: Literal["seen"] = "seen"
    name: str = "seen"

    def values(self, context: MetricContext) -> dict[str, float]:
        assert torch.equal(context.net(context.x).argmax(dim=1) == context.y, context.clean_correct)
        assert (context.eps, context.norm, len(context.x)) == (EPS, "linf", len(context.robust_correct))
        moved = sum((context.origin().params[name] != p).sum() for name, p in context.state.params.items())
        draw = torch.rand((), generator=context.generator)
        return {self.name: float(moved), f"{self.name}_draw": float(draw), f"{self.name}_infinite": float("inf")}


def test_metrics_see_the_network_its_verdicts_and_its_origin() -> None:
    model = linear()
    start = State.of(model)
    start.params["net.1.weight"][0, :3] += 1
    only = QUICK.model_copy(update={"metrics": (Seen(),), "examples": 200})
    both = only.model_copy(update={"metrics": (Seen(name="first"), Seen())})
    found, again = (measure(model, State.of(model), p, SPLIT, device="cpu", origin=lambda: start) for p in (only, both))
    assert found.metrics["seen"] == 3
    assert found.metrics["seen_infinite"] is None
    assert again.metrics["seen_draw"] == found.metrics["seen_draw"] != again.metrics["first_draw"]
    assert (found.flags, found.robust_correct.shape) == ((), (200,))
    twice = QUICK.model_copy(update={"metrics": (Seen(), Seen())})
    with pytest.raises(SpecError, match="two metrics have the name seen"):
        measure(model, State.of(model), twice, SPLIT, device="cpu", origin=lambda: start)
    with pytest.raises(SpecError, match="initial network"):
        measure(model, State.of(model), only, SPLIT, device="cpu")


def test_no_metric_costs_no_key_and_a_partial_measurement_takes_none() -> None:
    with_one = QUICK.model_copy(update={"metrics": (Weights(),)})
    assert "metrics" not in plain(QUICK, defaults=False)
    assert with_one.cheaper(10, 1) == QUICK.cheaper(10, 1)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["lipschitz", {"kind": "lipschitz", "samples": 3}], "an earlier lipschitz gives the same names"),
        (["attacked", {"kind": "attacked", "eps": 0.1}], "an earlier attacked gives the same names"),
        ([{"kind": "attacked", "attack": "deepfool"}], r"metrics.0\n  deepfool is in l2, but the protocol's radius"),
        ([{"kind": "noise", "strong": {"kind": "pgd", "norm": "l2"}}], r"pgd is in l2"),
    ],
)
def test_metrics_that_cannot_be_taken_together_or_mislead_are_refused(metrics: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Protocol.model_validate({"metrics": metrics})


def test_metrics_of_one_kind_with_names_and_radii_of_their_own_are_taken() -> None:
    own = {"kind": "attacked", "name": "far", "attack": "deepfool", "eps": 2.0}
    by_inputs = [{"kind": "dense_distance", "inputs": inputs} for inputs in ("clean", "mixed")]
    assert len(Protocol.model_validate({"metrics": ["attacked", own, *by_inputs]}).metrics) == 4


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lenet5", "resnet20"])
def test_without_pruned_filters_a_network_measures_the_same(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = trained_net(model, 0)
    state = small_state(net, "filter", 0.8)
    draws = torch.Generator().manual_seed(0)
    x = torch.randint(256, (64, *SHAPE), generator=draws, dtype=torch.uint8)
    with torch.no_grad():
        logits = state.into(trained_net(model, 1)).eval()(x / 255)
    *_, bias = (name for name in state.params if name.endswith("bias"))
    state.params[bias].sub_(logits.mean(dim=0))  # All classes are predicted.
    y = (logits - logits.mean(dim=0)).argmax(dim=1)
    split, protocol = Split(x, y, 255.0), QUICK.model_copy(update={"eps": Eps(0.002)})
    attacked: list[int] = []
    run = attacks.run

    def spy(attack: Attack, net: nn.Module, *rest: Any, **named: Any) -> torch.Tensor:
        attacked.append(sum(p.numel() for p in net.parameters()) if isinstance(net, nn.Module) else 0)
        return run(attack, net, *rest, **named)

    monkeypatch.setattr(attacks, "run", spy)
    whole, small = (measure(net, state, protocol, split, device="cpu", shrunk=shrunk) for shrunk in (False, True))
    assert max(attacked[len(attacked) // 2 :]) < state.parameters() == attacked[0]
    assert 8 < whole.robust_correct.sum() < 56
    for verdicts in ("robust_correct", "clean_correct"):
        assert (getattr(whole, verdicts) != getattr(small, verdicts)).sum() <= 1, "rounding alone"
    plain = ("nonzero", "prunable", "parameters", "macs_dense", "macs_effective", "flags", "weights_sha256")
    assert all(getattr(whole, name) == getattr(small, name) for name in plain)


def test_a_network_without_pruned_filters_measures_to_the_same_bits() -> None:
    one, other = (measure(linear(), State.of(linear()), QUICK, SPLIT, device="cpu", shrunk=s) for s in (False, True))
    assert (one.robust_correct == other.robust_correct).all()
