"""What every reparametrisation must do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.core.spec import plain
from trainables.losses.cross_entropy import Mix
from trainables.method.phases import Train
from trainables.optimisers.adam import Adam
from trainables.optimisers.sgd import Sgd
from trainables.reparametrisations import REPARAMETRISATIONS
from trainables.reparametrisations.base import EffectiveWeights, Reparametrisation
from trainables.reparametrisations.network import Fresh, ReparametrisedNetwork
from trainables.store.state import State, pack, unpack
from trainables.testing.trainings import FORMATS, data, end, network, phase, pruned, same, started


def training(reparametrisation: Reparametrisation, **fields: Any) -> Train:
    """Describe a training with a reparametrisation; `fields` are those of `Training`, and epochs."""
    return phase(**{"epochs": 4, "loss": Mix(), **fields}).model_copy(update={"weights": reparametrisation})


def made(reparametrisation: Reparametrisation) -> tuple[nn.Module, EffectiveWeights | None]:
    """Return a network, some of it pruned, and its effective weights."""
    model = network()
    with torch.no_grad():
        model(data().train.pixels())
    state = pruned(State.of(model), 0.2)
    state.into(model)
    state = State(dict(model.named_parameters()), state.buffers, state.masks)
    return model, reparametrisation.build(state, torch.Generator().manual_seed(0), model, data().shape)


class ReparametrisationKit:
    """Tests of a reparametrisation, in trainings of a small network."""

    @pytest.fixture
    def reparametrisation(self) -> Reparametrisation:
        """Return the reparametrisation to test."""
        raise NotImplementedError

    @pytest.mark.parametrize("optimiser", [Sgd(lr=0.05), Adam()], ids=["sgd", "adam"])
    def test_a_resumed_training_equals_an_uninterrupted_one(
        self, reparametrisation: Reparametrisation, optimiser: Any
    ) -> None:
        whole = training(reparametrisation, optimiser=optimiser, ema=0.9, regularisers={"l1": 1e-4})
        begin = pruned(State.of(network()), 0.2)
        losses, wanted = [], None
        for report in started(whole, begin):
            losses.append(report.loss)
            wanted = report.state()
        assert wanted is not None
        for at in (1, 3):
            cut = started(whole, begin)
            for _ in range(at):
                report = next(cut)
            resumed = started(whole, begin, resume=(at, unpack(pack(report.checkpoint()))))
            last = end(resumed)
            assert last.loss == losses[-1]
            assert same(last.state(), wanted)

    def test_what_was_pruned_stays_0_and_states_are_whole(self, reparametrisation: Reparametrisation) -> None:
        begin = pruned(State.of(network()), 0.2)
        report = end(started(training(reparametrisation), begin))
        found = report.state()
        for name, mask in begin.masks.items():
            assert int(torch.count_nonzero(found.params[name][~mask])) == 0
            assert int(torch.count_nonzero(found.params[name][~found.masks[name]])) == 0
            assert not bool((found.masks[name] & ~mask).any())
            assert found.masks[name].shape == found.params[name].shape
            assert not found.params[name].requires_grad
        assert found.into(network())

    def test_a_training_of_several_phases_resumes_from_its_state(self, reparametrisation: Reparametrisation) -> None:
        first = end(started(training(reparametrisation, epochs=2))).state()
        again = end(started(training(reparametrisation, epochs=4, start=2), State(**unpack(pack(vars(first)))))).state()
        assert again.extras.keys() == first.extras.keys()
        assert not same(first, again)

    def test_until_ends_a_training_early_and_changes_nothing_else(self, reparametrisation: Reparametrisation) -> None:
        whole = training(reparametrisation)
        short = whole.model_copy(update={"until": 2})
        assert (whole.length, short.length, short.end) == (4, 2, 2)
        reports = list(started(short))
        running = started(whole)
        next(running)
        assert [r.loss for r in reports][1] == next(running).loss
        assert len(reports) == 2

    @pytest.mark.parametrize("memory", FORMATS)
    def test_effective_weights_are_shaped_like_the_parameters(
        self, reparametrisation: Reparametrisation, memory: str
    ) -> None:
        model, hidden = made(reparametrisation)
        if hidden is None:
            return
        params = {
            name: p.contiguous(memory_format=FORMATS[memory]) if p.dim() == 4 else p
            for name, p in model.named_parameters()
        }
        given, moved = (hidden.weights(p, hidden.extras, None) for p in (dict(model.named_parameters()), params))
        for name, weight in moved.items():
            assert weight.shape == params[name].shape, name
            assert bool(weight.isfinite().all()), name
            torch.testing.assert_close(weight, given[name])

    def test_folding_leaves_exact_zeros_and_needs_no_gradients(self, reparametrisation: Reparametrisation) -> None:
        model, hidden = made(reparametrisation)
        if hidden is None:
            return
        state = pruned(State.of(model), 0.2)
        folded = hidden.fold(state, hidden.extras)
        for name in state.prunable():
            assert not bool(folded.params[name][~folded.masks[name]].any()), name
            assert not bool((folded.masks[name] & ~state.masks[name]).any()), name
            assert not folded.params[name].requires_grad, name
        again = hidden.fold(state, hidden.extras)
        assert same(folded, again)

    def test_the_attack_meets_the_effective_weights_and_moves_nothing(
        self, reparametrisation: Reparametrisation
    ) -> None:
        model, hidden = made(reparametrisation)
        if hidden is None:
            return
        before = copy.deepcopy(model.state_dict())
        hidden.in_attack = "held"
        effective = ReparametrisedNetwork(model, hidden)
        effective.write(torch.Generator().manual_seed(3))
        wanted = hidden.weights(dict(model.named_parameters()), hidden.extras, torch.Generator().manual_seed(3))
        x = data().train.pixels()
        model.eval()
        logits = functional_call(model, wanted, (x,))
        torch.testing.assert_close(effective.attacked.eval()(x), logits)
        assert all(torch.equal(model.state_dict()[name], t) for name, t in before.items())
        # What is not reparametrised is shared, so that statistics and biases are always those of the network.
        assert effective.attacked.get_buffer("1.running_mean") is model.get_buffer("1.running_mean")
        assert effective.attacked.get_parameter("4.bias") is model.get_parameter("4.bias")

    def test_gradients_are_those_of_the_explicit_form(self, reparametrisation: Reparametrisation) -> None:
        """Compare the network's gradients with the chain rule: the weights' gradients, pulled back to the extras."""
        model, hidden = made(reparametrisation)
        if hidden is None or not hidden.extras:
            return
        hidden.in_training = True
        x, y = data().train.pixels(), data().train.y
        params = dict(model.named_parameters())
        loss = nn.functional.cross_entropy(
            ReparametrisedNetwork(model, hidden).forward(x, torch.Generator().manual_seed(3)), y
        )
        loss.backward()  # type: ignore[no-untyped-call]

        made_of = hidden.weights(params, hidden.extras, torch.Generator().manual_seed(3))
        effective = {name: w for name, w in made_of.items() if w.requires_grad}
        leaves = {name: w.detach().clone().requires_grad_() for name, w in effective.items()}
        outer = torch.autograd.grad(
            nn.functional.cross_entropy(functional_call(model, leaves, (x,)), y), list(leaves.values())
        )
        inner = torch.autograd.grad(list(effective.values()), list(hidden.extras.values()), outer, allow_unused=True)
        for (name, extra), wanted in zip(hidden.extras.items(), inner, strict=True):
            assert extra.grad is not None, name
            torch.testing.assert_close(extra.grad, wanted)
            assert float(extra.grad.abs().sum()) > 0, name

    def test_fresh_draws_meet_every_pass(self, reparametrisation: Reparametrisation) -> None:
        model, hidden = made(reparametrisation)
        if hidden is None or hidden.in_attack != "fresh":
            return
        from trainables.models.graph.folding import FrozenAttackModel

        effective = ReparametrisedNetwork(model, hidden)
        frozen = FrozenAttackModel(effective.attacked, "fp32", data().train.pixels()[:4])
        adversary = effective.adversary(frozen, torch.Generator().manual_seed(1))
        assert isinstance(adversary, Fresh)
        x = data().train.pixels()

        def slope(logits: Tensor) -> Tensor:
            return logits

        assert not torch.equal(adversary(x), adversary(x))
        assert not torch.equal(adversary.input_gradient(x, slope), adversary.input_gradient(x, slope))

    def test_is_written_by_its_kind(self, reparametrisation: Reparametrisation) -> None:
        assert REPARAMETRISATIONS.parse(plain(reparametrisation)) == reparametrisation
