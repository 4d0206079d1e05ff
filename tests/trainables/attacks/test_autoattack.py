"""AutoAttack behind the door: the package's verdicts, and nothing else of what the package does."""

from __future__ import annotations

import builtins
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.attacks.oracles import Affine, curved
from trainables.attacks import run
from trainables.attacks.autoattack import AutoAttack
from trainables.core.errors import SpecError

SHORT = AutoAttack(steps=6, queries=10)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_verdicts_and_inputs_are_those_of_the_package(norm: str) -> None:
    package = pytest.importorskip("pyautoattack")
    net, x, y = curved(40)
    eps = {"linf": 0.01, "l2": 0.05}[norm]
    attack = AutoAttack(norm=norm, steps=10, queries=50)
    found = run(attack, net, x, y, eps=eps, generator=generator(3))
    names = {"linf": "Linf", "l2": "L2"}
    seed = int(torch.randint(2**31, (), generator=generator(3)))
    original = package.AutoAttack(net, norm=names[norm], eps=eps, seed=seed, version="standard")
    original.logger = original.apgd.logger = original.apgd_targeted.logger = logging.Logger("quiet")
    original.square.n_queries, original.fab.n_iter = 50, 10
    original.fab.n_target_classes = original.apgd_targeted.n_target_classes = 5
    for part in (original.apgd, original.apgd_targeted):
        part.n_iter, part.n_iter_2, part.n_iter_min, part.size_decr = 10, 2, 1, 1
    with torch.random.fork_rng():
        theirs = original.run_standard_evaluation(x, y, batch_size=40)[0]
    broken = net(theirs).argmax(dim=1) != y
    assert 5 < int(broken.sum()) < 35
    torch.testing.assert_close(found[broken], theirs[broken], rtol=0, atol=1e-6)
    assert torch.equal(net(found).argmax(dim=1) != y, broken)


@pytest.mark.parametrize("version", ["standard", "rand"])
def test_leaves_the_process_as_it_was(version: str, capfd: pytest.CaptureFixture[str], caplog: Any) -> None:
    net, x, y = curved(12)
    net.requires_grad_(True)

    def tracer(*_: Any) -> None:
        return None

    before, tracing = torch.get_rng_state(), sys.gettrace()
    sys.settrace(tracer)
    try:
        run(SHORT.model_copy(update={"version": version}), net, x, y, eps=0.02, generator=generator())
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(tracing)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_a_radius_for_each_image_bounds_it() -> None:
    net, x, y = curved(12)
    eps = torch.tensor([0.0, 0.01, 0.05] * 4)
    found = run(SHORT, net, x, y, eps=eps, generator=generator())
    moved = (found - x).flatten(1).abs().amax(dim=1)
    torch.testing.assert_close(moved, eps, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("version", "classes", "needed"), [("standard", 3, 4), ("standard", 2, 4), ("rand", 2, 3)])
def test_too_few_classes_are_refused_with_what_to_take_instead(version: str, classes: int, needed: int) -> None:
    net = Affine(classes)
    x, y = net.batch()
    attack = SHORT.model_copy(update={"version": version})
    with pytest.raises(
        SpecError, match=rf"{version} needs at least {needed} classes .* the network has {classes}; take .* `aa`"
    ):
        run(attack, net, x, y, eps=0.1, generator=generator())


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pyautoattack":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    net, x, y = curved(4)
    with pytest.raises(SpecError, match=r"pip install 'robustsearch\[confirm\]'"):
        run(SHORT, net, x, y, eps=0.1, generator=generator())


def _flat(z: Tensor) -> Tensor:
    return torch.zeros(len(z), 5) * z.sum()


def _saturated(z: Tensor) -> Tensor:
    return (1e4 * (z.flatten(1)[:, :5] - 0.5)).clamp(0, 1).round()


@pytest.mark.parametrize("net", [_flat, _saturated, lambda z: z.flatten(1)[:, :5]], ids=["flat", "saturated", "view"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_tied_logits_and_views_of_the_input_are_attacked(net: Callable[[Tensor], Tensor], norm: str) -> None:
    x = torch.rand(8, 1, 6, 6, generator=generator())
    y = net(x).argmax(dim=1)
    found = run(AutoAttack(norm=norm, steps=3, queries=5), net, x, y, eps=0.05, generator=generator())
    assert bool(((found - x).flatten(1).norm(dim=1, p={"linf": torch.inf, "l2": 2}[norm]) <= 0.05 + 1e-6).all())


def test_label_says_what_is_not_the_original() -> None:
    assert [a.label for a in (AutoAttack(), AutoAttack(version="rand"), SHORT)] == [
        "AutoAttack", "AutoAttack-rand", "AutoAttack-6",
    ]  # fmt: skip
