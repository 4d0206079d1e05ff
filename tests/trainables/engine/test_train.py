"""What a training promises: resumption bit for bit, exact masks, statistics left alone by the attack."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.engine.factories import EVERYTHING, KEY, data, end, network, phase, pruned, same, started
from tests.trainables.models.factories import SHAPE, Rows, small_state, trained_net
from trainables.attacks.pgd import Pgd
from trainables.core.errors import Diverged, SpecError
from trainables.data.tensors import Split, TrainingData
from trainables.engine import training_run as subject
from trainables.engine.epoch import Epoch
from trainables.engine.train import train
from trainables.losses.cross_entropy import Madry, Mix, Natural
from trainables.losses.trades import Trades
from trainables.method.phases import Train
from trainables.method.schedules import Constant, Cosine
from trainables.models.graph.sparse_weights import SparseWeight
from trainables.optimisers.adam import Adam, AdamW
from trainables.optimisers.sgd import Sgd
from trainables.pruning import Pruning
from trainables.pruning.cut import prune
from trainables.reparametrisations.admm import Admm
from trainables.reparametrisations.learned import Scores
from trainables.reparametrisations.twin import Twin
from trainables.store.state import FORCED, State, pack, unpack

OPTIMISERS = [
    Sgd(),
    Sgd(momentum=0.0),
    Sgd(nesterov=True),
    Adam(weight_decay=1e-3),
    AdamW(),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=["sgd", "plain", "nesterov", "adam", "adamw"])
def test_a_resumed_training_equals_an_uninterrupted_one(optimiser: Any, precision: str) -> None:
    spec = phase(epochs=4, optimiser=optimiser, precision=precision, regularisers={"l1": 1e-4}, **EVERYTHING)
    begin = pruned(State.of(network()))
    whole = list(started(spec, begin))
    # `end` holds the last epoch alone, so its tensors may still be asked for.
    wanted = whole[-1].state()
    for at in (1, 3):
        cut = started(spec, begin)
        for _ in range(at):
            report = next(cut)
        checkpoint = unpack(pack(report.checkpoint()))
        resumed = list(started(spec, begin, resume=(at, checkpoint)))
        assert [e.epoch for e in resumed] == list(range(at + 1, 5))
        assert [e.loss for e in resumed] == [e.loss for e in whole[at:]]
        assert same(resumed[-1].state(), wanted)


def test_nothing_but_key_and_start_decides() -> None:
    spec = phase()
    one, other = started(spec), started(spec)
    torch.manual_seed(1)
    wanted = end(one).state()
    torch.manual_seed(2)
    assert same(wanted, end(other).state())
    model = network()
    another = end(train(model, State.of(model), spec, data(), key="another", device="cpu"))
    assert not same(wanted, another.state())


def test_random_layers_draw_by_the_key_and_the_epoch_alone() -> None:
    spec = phase(epochs=3)

    def trained(seed: int, key: str = KEY, resume: Any = None) -> list[tuple[float, State, Any]]:
        model = nn.Sequential(*network(), nn.Dropout(0.5))
        epochs = train(model, State.of(model), spec, data(), key=key, device="cpu", resume=resume)
        found: list[tuple[float, State, Any]] = []
        torch.manual_seed(seed)  # As if the worker had run something else.
        before = torch.get_rng_state()
        for epoch in epochs:
            found.append((epoch.loss, epoch.state(), unpack(pack(epoch.checkpoint()))))
            assert torch.equal(torch.get_rng_state(), before), "what runs next is not to depend on it"
        return found

    one, other = trained(1), trained(2)
    assert [loss for loss, _, _ in one] == [loss for loss, _, _ in other]
    assert same(one[-1][1], other[-1][1])
    (resumed,) = trained(3, resume=(2, one[1][2]))
    assert same(resumed[1], one[-1][1])
    assert not same(trained(1, "another")[-1][1], one[-1][1])


def test_the_model_passed_in_is_a_workshop_only() -> None:
    begin = State.of(network())
    before = begin.weights_sha256()
    spec = phase()
    one = end(train(network(seed=1), begin, spec, data(), key=KEY, device="cpu")).state()
    two = end(train(network(seed=2), begin, spec, data(), key=KEY, device="cpu")).state()
    assert same(one, two)
    assert begin.weights_sha256() == before


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=["sgd", "plain", "nesterov", "adam", "adamw"])
def test_masks_hold_exactly(optimiser: Any) -> None:
    begin = pruned(State.of(network()))
    spec = phase(optimiser=optimiser, ema=0.9, regularisers={"l2": 1e-2, "group_lasso": 1e-3})
    model = network()
    for report in train(model, begin, spec, data(), key=KEY, device="cpu"):
        now, checkpoint = report.state(), report.checkpoint()
        for name, mask in begin.masks.items():
            for tensor in (now.params[name], checkpoint["params"][name], checkpoint["average"][name]):
                assert int(torch.count_nonzero(tensor[~mask])) == 0
            assert torch.equal(now.masks[name], mask)
            assert int(torch.count_nonzero(now.params[name][mask])) > 0.9 * int(mask.sum())
    assert not torch.equal(now.params["0.weight"], begin.params["0.weight"])


def test_average_is_what_the_phase_hands_on() -> None:
    """Against the recursion written out, on the weights after every step."""
    spec = phase(epochs=4, ema=0.5, batch=60)
    begin = State.of(network())
    average = {**begin.params, **begin.buffers}
    for t, report in enumerate(train(network(), begin, spec, data(), key=KEY, device="cpu"), start=1):
        checkpoint = report.checkpoint()
        decay = min(0.5, (1 + t) / (10 + t))
        for name, now in {**checkpoint["params"], **checkpoint["buffers"]}.items():
            average[name] = now if not now.is_floating_point() else decay * average[name] + (1 - decay) * now
    found = report.state()
    for name, tensor in {**found.params, **found.buffers}.items():
        torch.testing.assert_close(tensor, average[name])
    assert not torch.allclose(found.params["4.weight"], checkpoint["params"]["4.weight"])


@pytest.mark.slow
def test_learns_and_adversarial_training_helps() -> None:
    """Under attack, the adversarially trained networks beat the naturally trained one."""
    from trainables.attacks import run

    robust = {}
    for loss in (Natural(), Madry(), Trades()):
        spec = phase(epochs=20, eps=0.2, eps_warmup=5.0, loss=loss, optimiser=Sgd(lr=0.02))
        report = end(started(spec))
        model = report.state().into(network()).eval()
        x, y = data().train.pixels(), data().train.y
        found = run(Pgd(steps=10), model, x, y, eps=0.2, generator=torch.Generator().manual_seed(1))
        robust[loss.kind] = float((model(found).argmax(1) == y).float().mean())
        assert float((model(x).argmax(1) == y).float().mean()) > 0.9
    assert robust["madry"] > robust["natural"] + 0.3
    assert robust["trades"] > robust["natural"] + 0.3


def statistics_after(loss: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[State, list[Tensor]]:
    """Train one epoch of one step that hardly moves, and return the batches that train mode saw."""
    seen: list[Tensor] = []
    forward = subject.TrainingRun._forward

    def spy(self: Any, x: Tensor) -> Tensor:
        assert self.model.training
        seen.append(x.detach().clone())
        return forward(self, x)

    monkeypatch.setattr(subject.TrainingRun, "_forward", spy)
    spec = phase(epochs=1, batch=60, loss=loss, optimiser=Sgd(lr=1e-12, weight_decay=0.0))
    return end(started(spec)).state(), seen


@pytest.mark.parametrize(("loss", "forwards"), [(Natural(), 1), (Madry(), 1), (Trades(), 2)])
def test_batch_norm_statistics_come_from_the_training_forward_alone(
    loss: Any, forwards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, seen = statistics_after(loss, monkeypatch)
    assert len(seen) == forwards
    reference = network().train()
    for x in seen:
        reference(x)
    torch.testing.assert_close(state.buffers["1.running_mean"], reference[1].running_mean)
    torch.testing.assert_close(state.buffers["1.running_var"], reference[1].running_var)
    assert int(state.buffers["1.num_batches_tracked"]) == forwards


@pytest.mark.slow
def test_the_first_epochs_may_be_natural_and_change_nothing_after() -> None:
    mixed = started(phase(epochs=4, loss=Mix(), natural_epochs=2, schedule=Constant()))
    reports = [next(mixed), next(mixed)]
    constant = list(started(phase(epochs=2, loss=Natural(), schedule=Constant())))
    assert [r.loss for r in reports] == [r.loss for r in constant]
    assert same(reports[-1].state(), constant[-1].state())
    checkpoint = reports[-1].checkpoint()
    rest = list(mixed)
    assert len(rest) == 2
    again = started(phase(epochs=4, loss=Mix(), natural_epochs=2, schedule=Constant()), resume=(2, checkpoint))
    assert [r.loss for r in again] == [r.loss for r in rest]
    one, other = (started(phase(epochs=3, start=2, loss=Mix(), natural_epochs=n, schedule=Constant())) for n in (0, 2))
    assert next(one).loss == next(other).loss


def test_learning_rate_and_radius_are_functions_of_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    step = subject.TrainingRun._step

    def spy(self: Any, index: Tensor, given: Any, *, lr: float, number: int) -> Any:
        seen.append((lr, given.eps))
        return step(self, index, given, lr=lr, number=number)

    monkeypatch.setattr(subject.TrainingRun, "_step", spy)
    spec = phase(epochs=4, start=1, optimiser=Sgd(lr=0.2), schedule=Cosine(warmup=2.0), eps=0.1, eps_warmup=3.0)
    reports = list(started(spec))
    assert [r.epoch for r in reports] == [2, 3, 4]
    for step_number, (lr, eps) in enumerate(seen):
        at = 1 + step_number / 3
        assert lr == pytest.approx(0.2 * (at / 2 if at < 2 else (1 + math.cos(math.pi * (at - 2) / 2)) / 2))
        assert eps == pytest.approx(0.1 * min(1, at / 3))
    assert (reports[-1].lr, reports[-1].eps) == seen[-1]


def test_epochs_differ_in_order_augmentation_and_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    pixels = subject.TrainingRun.pixels

    def spy(self: Any, index: Tensor, draws: torch.Generator | None = None) -> Tensor:
        x = pixels(self, index, draws)
        if draws is not None:
            seen.append(x.clone())
        return x

    monkeypatch.setattr(subject.TrainingRun, "pixels", spy)
    end(started(phase(epochs=2)))
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert not torch.equal(first, second)
    assert torch.equal(first.flatten(1).sum(1).sort().values, second.flatten(1).sum(1).sort().values)
    assert [len(x) for x in seen] == [25, 25, 10, 25, 25, 10]
    assert all(x.dtype == torch.float32 and float(x.min()) >= 0 and float(x.max()) <= 1 for x in seen)


def test_a_divergent_training_says_so() -> None:
    spec = phase(optimiser=Sgd(lr=1e30), schedule=Constant())
    with pytest.raises(Diverged, match=r"epoch 1, step \d"):
        end(started(spec))


def test_non_finite_weights_of_the_last_step_are_found() -> None:
    spec = phase(
        epochs=1, batch=60, optimiser=Sgd(lr=1e38, weight_decay=0.0), loss=Natural(), regularisers={"l2": 1e10}
    )
    with pytest.raises(Diverged, match="weights"):
        end(started(spec))


def test_a_training_of_no_epochs_reports_nothing() -> None:
    assert list(started(phase(epochs=2, start=2))) == []


def test_a_stale_report_is_refused() -> None:
    epochs = started(phase())
    first = next(epochs)
    next(epochs)
    with pytest.raises(AssertionError):
        first.state()


def test_a_pruned_resumption_does_not_need_the_given_state() -> None:
    spec = phase(epochs=2, ema=0.5)
    begin = pruned(State.of(network()))
    wanted = end(started(spec, begin)).state()
    first = next(started(spec, begin)).checkpoint()
    elsewhere = State(State.of(network(seed=9)).params, begin.buffers, begin.masks).masked()
    assert same(end(started(spec, elsewhere, resume=(1, first))).state(), wanted)


def test_convolutions_run_in_channels_last() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
    report = end(train(model, State.of(model), phase(epochs=1), data(shape=(2, 8, 8)), key=KEY, device="cpu"))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert report.accuracy <= 1
    assert subject.memory_format(nn.Sequential(nn.Linear(2, 2))) is torch.contiguous_format


@pytest.mark.parametrize(("last", "batches"), [(nn.Identity(), [4, 4, 1]), (nn.BatchNorm1d(6), [4, 5])])
def test_a_last_image_that_batch_norm_refuses_joins_the_batch_before(last: nn.Module, batches: list[int]) -> None:
    shape = data().shape
    net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 6), last, nn.Linear(6, data().classes))
    seen: list[int] = []
    net[1].register_forward_pre_hook(lambda layer, inputs: seen.append(len(inputs[0])) if layer.training else None)
    split = data().train
    nine = replace(data(), train=Split(split.x[:9], split.y[:9], split.scale))
    natural = phase(epochs=1, batch=4, loss=Natural())
    (epoch,) = train(net, State.of(net), natural, nine, key=KEY, device="cpu")
    assert [images for images in seen if images > 1 or 1 in batches][-len(batches) :] == batches
    assert 0 <= epoch.accuracy <= 1


@pytest.mark.parametrize("weights", [None, Scores(sparsity=0.6), Twin()], ids=["plain", "scores", "twin"])
def test_attention_and_recurrent_layers_keep_their_masks(weights: Any) -> None:
    model = Rows()
    begin = pruned(State.of(model))
    spec = phase(epochs=2, attack={"kind": "pgd", "steps": 2}, optimiser={"kind": "sgd", "lr": 0.5})
    spec = spec if weights is None else spec.model_copy(update={"weights": weights})
    found = end(train(model, begin, spec, data(), key=KEY, device="cpu")).state()
    for name, mask in begin.masks.items():
        assert not bool(found.params[name][~mask].any()), name
        moved = found.masks[name] != mask if isinstance(weights, Scores) else found.params[name] != begin.params[name]
        assert bool(moved.any()), name
    x = data().train.pixels(slice(5))
    other = found.into(Rows(1)).eval()
    with torch.no_grad():
        assert torch.equal(other(x), found.into(model).eval()(x))


@pytest.mark.parametrize("kind", ["regulariser", "reparametrisation"])
def test_penalties_meant_for_twice_the_steps_weigh_twice_as_much(kind: str) -> None:
    """Three epochs of three steps; a factor of 2 rounds nothing."""

    def trained(weight: float, penalty_steps: int | None) -> State:
        spec = phase(regularisers={"l1": weight} if kind == "regulariser" else {})
        weights = Admm(sparsity=0.5, rho=weight, update_epochs=1) if kind == "reparametrisation" else spec.weights
        spec = spec.model_copy(update={"penalty_steps": penalty_steps, "weights": weights})
        return end(started(spec)).state()

    assert same(trained(0.01, 18), trained(0.02, None))
    assert not same(trained(0.01, 18), trained(0.01, None))


def test_a_penalty_on_the_activations_of_a_network_without_them_is_refused() -> None:
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    net(data().train.pixels(slice(2)))
    with pytest.raises(SpecError, match="activation_l1: the network has no activation layers"):
        end(train(net, State.of(net), phase(activation_l1=0.1), data(), key=KEY, device="cpu"))


def test_notes_stay_with_a_state_that_is_trained_on() -> None:
    """Also where the state of an earlier epoch is chosen."""
    noted = replace(State.of(network()), notes={FORCED: torch.tensor(0.3)})
    for fields in ({}, {"select": 10}):
        assert end(started(phase(**fields), noted)).state().notes == noted.notes


def images(number: int = 60) -> TrainingData:
    """Make real-valued images of three classes."""
    draws = torch.Generator().manual_seed(1)
    y = torch.arange(number) % 3
    x = 0.6 * torch.rand((number, *SHAPE), generator=draws) + 0.2 * y.view(-1, 1, 1, 1)
    split = Split(x, y, 1.0)
    return TrainingData(split, split, 3, SHAPE, (0.5, 0.5), (0.3, 0.2), "f", "s")


OF_SIZES = [
    *(("lenet5", optimiser) for optimiser in (Sgd(lr=0.01), Adam(weight_decay=1e-3), AdamW())),
    ("resnet20", Sgd(lr=0.01)),
    *(
        pytest.param(net, optimiser, marks=pytest.mark.slow)
        for net, optimiser in (
            ("resnet18", Adam(weight_decay=1e-3)),
            ("vgg16", Sgd(lr=0.01)),
            ("wrn28_4", Sgd(lr=0.01)),
        )
    ),
]
PENALTIES = {"l1": 1e-4, "l2": 1e-3, "group_lasso": 1e-3, "slimming": 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "optimiser"), OF_SIZES, ids=lambda given: getattr(given, "kind", given))
def test_without_pruned_filters_the_training_is_the_same(
    model: str, optimiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In double precision, where the rounding of other sums does not grow to anything within three epochs."""
    monkeypatch.setattr("trainables.data.tensors.as_pixels", lambda x, scale: x.double())
    monkeypatch.setattr(subject, "as_pixels", lambda x, scale: x.double())
    begin = small_state(trained_net(model, 0).double(), "filter", 0.8)
    fields = {**EVERYTHING, "crop": 0, "awp": 0.005, "select": 12, "activation_l1": 1e-6, "regularisers": PENALTIES}
    attacks = {"attack": Pgd(steps=2), "select_attack": Pgd(steps=2)}
    spec = phase(optimiser=optimiser, **fields, **attacks)
    found = []
    for shrunk in (False, True):
        own = spec.model_copy(update={"shrunk": shrunk})
        data = images(60 if model in ("lenet5", "resnet20") else 30)
        reports = list(train(trained_net(model, 1).double(), begin, own, data, key=KEY, device="cpu"))
        found.append((reports, reports[-1].state(), reports[-1].checkpoint()))
    (whole, state, checkpoint), (small, own_state, own_checkpoint) = found
    assert [e.size for e in whole] == [""] * 3
    assert all(e.size.startswith("without pruned filters, ") for e in small)
    for one, other in zip(whole, small, strict=True):
        assert (one.accuracy, one.held_back) == (other.accuracy, other.held_back)
        assert one.loss == pytest.approx(other.loss, rel=1e-6), "it is a sum in single precision"
    close = {"rtol": 1e-7, "atol": 1e-9}
    for group in ("params", "buffers", "masks"):
        one, other = getattr(state, group), getattr(own_state, group)
        assert list(one) == list(other)
        for name in one:
            torch.testing.assert_close(other[name], one[name], **close)
    assert not same(state, begin)
    assert checkpoint.keys() == own_checkpoint.keys()
    for name, tensors in checkpoint.items():
        assert tensors.keys() == own_checkpoint[name].keys()
        for key, tensor in tensors.items():
            torch.testing.assert_close(own_checkpoint[name][key], tensor, **close, msg=f"{name} {key}")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "optimiser"), OF_SIZES[:4], ids=lambda given: getattr(given, "kind", given))
def test_a_training_without_pruned_filters_resumes_to_the_same_bits(model: str, optimiser: Any) -> None:
    begin = small_state(trained_net(model, 0), "filter", 0.8)
    fields = {**EVERYTHING, "select": 12, "regularisers": PENALTIES}
    spec = phase(optimiser=optimiser, **fields).model_copy(update={"shrunk": True})

    def run(resume: Any = None) -> Iterator[Epoch]:
        return train(trained_net(model, 1), begin, spec, images(), key=KEY, device="cpu", resume=resume)

    whole = run()
    checkpoints = [unpack(pack(next(whole).checkpoint())) for _ in range(2)]
    last = end(whole)
    wanted, masks = last.state(), begin.masks
    for at, checkpoint in enumerate(checkpoints, start=1):
        assert all(checkpoint["params"][name].shape == p.shape for name, p in begin.params.items())
        resumed = end(run((at, checkpoint)))
        assert resumed.loss == last.loss
        assert same(resumed.state(), wanted)
    for name, mask in wanted.masks.items():
        assert torch.equal(mask, masks[name])
        assert not bool(wanted.params[name][~mask].any())


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("rewiring", {"kind": "flying_bird", "every": 2}, "flying_bird may change masks"),
        ("weights", Admm(sparsity=0.8), "admm trains other tensors"),
        ("optimiser", None, "the optimiser sgd may look at whole tensors"),
    ],
)
def test_where_filters_may_come_back_the_network_stays_whole_and_says_why(
    field: str, value: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = small_state(trained_net("lenet5", 0), "filter", 0.8)
    spec = phase(epochs=1)
    if field == "optimiser":
        monkeypatch.setattr(Sgd, "entrywise", False)
    else:
        spec = Train.model_validate({**dict(spec), field: value})
    assert spec.whole_because is not None
    last = end(train(trained_net("lenet5", 1), begin, spec, images(), key=KEY, device="cpu"))
    assert last.size.startswith(f"with all pruned filters: {reason}")
    whole = State.of(trained_net("lenet5", 1))
    assert end(train(trained_net("lenet5", 1), whole, spec, images(), key=KEY, device="cpu")).size == ""


def test_a_network_that_must_stay_whole_is_trained_as_before() -> None:
    begin = pruned(State.of(network()))
    spec = phase(epochs=1)
    wanted = end(started(spec, begin)).state()
    last = end(started(spec.model_copy(update={"shrunk": True}), begin))
    assert last.size == "with all pruned filters: no filter is pruned whole"
    assert same(last.state(), wanted)


def test_attacked_by_sparse_matrices_a_training_is_the_same_but_for_rounding_and_resumes_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    products: list[Tensor] = []
    forward = SparseWeight.forward
    monkeypatch.setattr(SparseWeight, "forward", lambda weight, z: (products.append(z), forward(weight, z))[1])
    model = trained_net("lenet300", 0)
    begin = prune(Pruning(), 0.95, State.of(model), torch.Generator().manual_seed(0))
    spec = phase(optimiser=Sgd(lr=0.01), ema=0.9)
    sparse = spec.model_copy(update={"sparse": True})

    def run(own: Train, resume: Any = None) -> Iterator[Epoch]:
        return train(trained_net("lenet300", 1), begin, own, images(), key=KEY, device="cpu", resume=resume)

    whole = run(sparse)
    checkpoint = unpack(pack(next(whole).checkpoint()))
    last = end(whole)
    wanted = last.state()
    assert same(end(run(sparse, (1, checkpoint))).state(), wanted)
    assert products
    products.clear()
    dense = end(run(spec))
    assert not products
    assert last.loss == pytest.approx(dense.loss, rel=1e-3)
    for name, p in dense.state().params.items():
        torch.testing.assert_close(wanted.params[name], p, rtol=1e-3, atol=1e-4)
