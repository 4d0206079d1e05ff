from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainables.models.factories import SHAPE, small_state, trained_net
from trainables import models
from trainables.core.errors import SpecError, StorageError
from trainables.core.spec import plain
from trainables.export import saved
from trainables.export.shrunk import shrunk
from trainables.models import MODELS
from trainables.models.noise import Noise
from trainables.store.state import State

SPEC = MODELS.parse({"kind": "lenet300", "hidden": [6, 5]})
CARD = {"model": plain(SPEC), "shape": [1, 4, 4], "classes": 3}


def network(seed: int = 0) -> torch.nn.Module:
    return models.build(SPEC, shape=(1, 4, 4), classes=3, mean=[0.3], std=[0.7], seed=seed).eval()


def pruned(seed: int = 0) -> State:
    state = State.of(network(seed))
    name = "net.1.weight"
    mask = torch.arange(state.params[name].numel()).reshape(state.params[name].shape) % 3 == 0
    return replace(state, masks={**state.masks, name: mask}).masked()


def edit(folder: Path, **fields: object) -> None:
    card = json.loads((folder / saved.CARD).read_text())
    (folder / saved.CARD).write_text(json.dumps({**card, **fields}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved.save(tmp_path / "net", pruned(), CARD)


def test_returns_the_network_bit_for_bit_with_its_statistics_and_zeros(folder: Path) -> None:
    x = torch.rand(5, 1, 4, 4)
    loaded = saved.load(folder)
    expected = pruned().into(network(seed=9)).eval()
    with torch.no_grad():
        assert torch.equal(loaded(x), expected(x))
    assert State.of(loaded).nonzero() == pruned().nonzero() < pruned().size()


def test_card_keeps_what_it_was_given_and_counts_sparsity(tmp_path: Path) -> None:
    state = pruned()
    given = {**CARD, "robust_accuracy": 0.5, "protocol": {"eps": "8/255"}, "sparsity": 0.1}
    card = saved.read_card(saved.save(tmp_path / "net", state, given))
    assert (card["robust_accuracy"], card["protocol"]) == (0.5, {"eps": "8/255"})
    assert card["sparsity"] == 1 - state.nonzero() / state.size() == pytest.approx(64 / 141)
    assert card["weights_sha256"] == state.weights_sha256()
    assert card["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_card_tells_of_the_noise_that_a_network_is_saved_without(tmp_path: Path) -> None:
    state = pruned()
    assert saved.read_card(saved.save(tmp_path / "plain", state, CARD))["noise"] is None
    alpha = {name: torch.full((1,), sign * 0.5) for name, sign in zip(state.prunable(), (1, -1) * 9, strict=False)}
    noisy = replace(state, extras=Noise(alpha, masked=True, nonzero=False).tensors())
    folder = saved.save(tmp_path / "noisy", noisy, CARD)
    assert saved.read_card(folder)["noise"] == pytest.approx(0.5)
    x = torch.rand(5, 1, 4, 4)
    assert torch.equal(saved.load(folder)(x), saved.load(tmp_path / "plain")(x))


def test_channels_last_weights_are_saved_alike(tmp_path: Path) -> None:
    spec = MODELS.parse("conv4")
    model = models.build(spec, shape=(1, 8, 8), classes=3, mean=[0.3], std=[0.7], seed=0)
    card = {"model": plain(spec), "shape": [1, 8, 8], "classes": 3}
    one = saved.save(tmp_path / "a", State.of(model), card)
    two = saved.save(tmp_path / "b", State.of(model.to(memory_format=torch.channels_last)), card)
    assert (one / saved.WEIGHTS).read_bytes() == (two / saved.WEIGHTS).read_bytes()


def test_refuses_a_target_that_is_not_empty_without_overwrite(folder: Path) -> None:
    before = (folder / saved.WEIGHTS).read_bytes()
    with pytest.raises(SpecError, match="not empty"):
        saved.save(folder, pruned(1), CARD)
    assert (folder / saved.WEIGHTS).read_bytes() == before
    saved.save(folder, pruned(1), CARD, overwrite=True)
    assert (folder / saved.WEIGHTS).read_bytes() != before
    assert [p.name for p in folder.parent.iterdir()] == ["net"]


def test_never_replaces_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SpecError, match=r"thesis\.tex"):
        saved.save(tmp_path, pruned(), CARD, overwrite=True)
    with pytest.raises(SpecError, match="is a file"):
        saved.save(tmp_path / "thesis.tex", pruned(), CARD, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_empty_target_is_taken(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    assert sorted(p.name for p in saved.save(tmp_path / "net", pruned(), CARD).iterdir()) == [saved.CARD, saved.WEIGHTS]


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_failed_write_leaves_the_previous_content(
    folder: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / saved.WEIGHTS).read_bytes()
    rename = Path.rename

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def refuse_fresh(self: Path, target: Path) -> Path:
        return refuse() if self.name.endswith(".tmp") else rename(self, target)

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", refuse)
    else:
        monkeypatch.setattr(Path, "rename", refuse_fresh)
    with pytest.raises(StorageError, match="No space left"):
        saved.save(folder, pruned(1), CARD, overwrite=True)
    assert (folder / saved.WEIGHTS).read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == ["net"]


@pytest.mark.parametrize("bad", [{"shape": [4, 4]}, {"classes": 0}, {"extra": float("nan")}, {"extra": object()}])
def test_refuses_a_card_that_could_not_be_loaded(bad: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="card"):
        saved.save(tmp_path / "net", pruned(), {**CARD, **bad})
    assert not (tmp_path / "net").exists()


def test_refuses_other_weights_than_the_card_describes(folder: Path) -> None:
    content = bytearray((folder / saved.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / saved.WEIGHTS).write_bytes(content)
    with pytest.raises(StorageError, match="sha256"):
        saved.load(folder)


def test_never_reads_a_pickle(folder: Path) -> None:
    content = pickle.dumps({"net.1.weight": 0})
    (folder / saved.WEIGHTS).write_bytes(content)
    edit(folder, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(StorageError, match="pickles are not read"):
        saved.load(folder)
    (folder / saved.WEIGHTS).rename(folder / "model.pth")
    with pytest.raises(StorageError, match=r"model\.pth is a pickle"):
        saved.load(folder)


def test_refuses_cards_that_are_damaged_or_of_the_future(folder: Path) -> None:
    edit(folder, schema=saved.SCHEMA + 1)
    with pytest.raises(StorageError, match="schema 2"):
        saved.load(folder)
    (folder / saved.CARD).write_text("{")
    with pytest.raises(StorageError, match="not a valid card"):
        saved.load(folder)
    with pytest.raises(StorageError, match="has no saved network"):
        saved.load(folder / "elsewhere")


def test_refuses_models_it_does_not_know_or_that_do_not_fit(folder: Path) -> None:
    edit(folder, model={"kind": "lenet30"})
    with pytest.raises(SpecError, match="did you mean 'lenet300'"):
        saved.load(folder)
    edit(folder, model={"kind": "lenet300", "depth": 3})
    with pytest.raises(SpecError, match="depth"):
        saved.load(folder)
    edit(folder, model={"kind": "lenet300"})
    with pytest.raises(SpecError, match="do not fit"):
        saved.load(folder)


PLUGIN = """
from typing import Literal
from pathlib import Path
from trainables.models import MODELS
from trainables.models.lenet import LeNet300

Path(__file__).with_suffix(".ran").touch()

class Own(LeNet300):
    kind: Literal["own_saved_test"] = "own_saved_test"

MODELS.register("own_saved_test", Own)
"""


def test_plugins_run_only_when_allowed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "own_saved_plugin.py"
    source.write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))
    edit(folder, model={"kind": "own_saved_test", "hidden": [6, 5]}, plugins=["own_saved_plugin"])
    with pytest.raises(SpecError, match="allow_plugins"):
        saved.load(folder)
    assert not source.with_suffix(".ran").exists()
    assert saved.load(folder, allow_plugins=True)(torch.rand(2, 1, 4, 4)).shape == (2, 3)
    edit(folder, model={"kind": "another"}, plugins=["no_such_plugin_anywhere"])
    with pytest.raises(SpecError, match="cannot be imported"):
        saved.load(folder, allow_plugins=True)


@pytest.mark.slow
@pytest.mark.parametrize("model", [{"kind": "lenet300", "hidden": [40, 20]}, "conv4", "resnet20"], ids=str)
def test_a_network_saved_without_its_dead_filters_has_the_same_logits(model: object, tmp_path: Path) -> None:
    net = trained_net(model, 0).eval()
    small = small_state(net, "filter")
    card = {"model": plain(MODELS.parse(model)), "shape": list(SHAPE), "classes": 3}
    folder = saved.save(tmp_path / "small", small, card, shrink=True)
    whole = saved.load(saved.save(tmp_path / "whole", small, card))
    loaded, wanted = saved.load(folder), shrunk(net, small, SHAPE)
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(loaded(x), wanted(x))
        torch.testing.assert_close(loaded(x), whole(x), rtol=1e-4, atol=1e-4 * float(whole(x).abs().max()))
    assert not loaded.training
    about = saved.read_card(folder)
    assert about["shrunk"]["parameters"] == sum(p.numel() for p in loaded.parameters())
    layers = {name: list(p.shape) for name, p in loaded.named_parameters() if p.dim() > 1}
    assert about["shrunk"]["layers"] == layers
    assert about["shrunk"]["prunable"] < 0.75 * about["prunable"]
    assert (about["nonzero"], about["weights_sha256"]) == (small.nonzero(), small.weights_sha256())
    assert (folder / saved.WEIGHTS).stat().st_size < (tmp_path / "whole" / saved.WEIGHTS).stat().st_size


def test_nothing_is_saved_smaller_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no filter of this network is dead"):
        saved.save(tmp_path / "net", pruned(), CARD, shrink=True)
    with pytest.raises(SpecError, match="invalid card"):
        saved.save(tmp_path / "net", pruned(), {**CARD, "shape": [4, 4]}, shrink=True)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_traced_or_is_another_when_smaller_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_state(net := trained_net("conv4", 0), "filter")
    card = {"model": plain(MODELS.parse("conv4")), "shape": list(SHAPE), "classes": 3}
    forward = type(net).forward

    def decides(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        return forward(self, x) if float(x.detach().sum()) > 0 else forward(self, -x)

    monkeypatch.setattr(type(net), "forward", decides)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)  # It needs no trace.
    with pytest.raises(SpecError, match=r"cannot be traced by torch\.fx"):
        saved.save(tmp_path / "net", small, card, shrink=True)

    def draws(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        return forward(self, x) + torch.rand(3)

    monkeypatch.setattr(type(net), "forward", draws)
    with pytest.raises(SpecError, match="other logits"):
        saved.save(tmp_path / "net", small, card, shrink=True)
    assert list(tmp_path.iterdir()) == []


def test_a_smaller_network_of_another_model_is_refused(tmp_path: Path) -> None:
    small = small_state(trained_net("conv4", 0), "filter")
    card = {"model": plain(MODELS.parse("conv4")), "shape": list(SHAPE), "classes": 3}
    folder = saved.save(tmp_path / "net", small, card, shrink=True)
    edit(folder, model={"kind": "lenet5"})
    with pytest.raises(SpecError, match="not those of the network"):
        saved.load(folder)


def test_what_torch_pruning_made_smaller_is_loaded_by_it_and_named_in_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that torch.fx cannot trace, so that our own way does not work."""
    small = small_state(net := trained_net("conv4", 0), "filter")
    card = {"model": plain(MODELS.parse("conv4")), "shape": list(SHAPE), "classes": 3}
    forward = type(net).forward

    def decides(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        return forward(self, x) if float(x.detach().sum()) > -1e9 else forward(self, -x)

    monkeypatch.setattr(type(net), "forward", decides)
    folder = saved.save(tmp_path / "net", small, card, shrink=True)
    assert saved.read_card(folder)["shrunk"]["by"] == "torch-pruning"
    loaded, whole = saved.load(folder), small.into(trained_net("conv4", 1)).eval()
    x = torch.rand(5, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), whole(x), rtol=1e-4, atol=1e-4)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(SpecError, match="needs the package of this name"):
        saved.load(folder)
    edit(folder, shrunk={"by": "magic"})
    with pytest.raises(SpecError, match="something that this version does not know"):
        saved.load(folder)
