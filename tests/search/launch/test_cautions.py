"""Networks that a protocol cannot measure are said where they are searched."""

from __future__ import annotations

from typing import Any

import pytest

from search.launch.cautions import cautions
from search.launch.validate import check_file
from search.study.space_check import corner_trials
from tests.search.studies import study

SQUARE = "attack: {kind: worst, attacks: [pgd, {kind: square, queries: 50}]}"


def said(protocol: str = "") -> str:
    more = f"protocol: {{{protocol}}}\n" if protocol else ""
    spec = study(more, "model={kind: lenet300, active: 0.5}")
    return " ".join(cautions(corner_trials(spec.space, spec.trial)))


def test_cut_activations_need_an_attack_without_gradients() -> None:
    assert said().startswith("lenet300: activations that are cut to the largest hide gradients, so PGD-20 measures too")
    assert said("attack: {kind: pgd, loss: margin}")
    assert said(SQUARE) == ""
    assert said("attack: aa") == ""


def test_measured_noise_is_said() -> None:
    assert "averaged over 7 passes" in said(f"{SQUARE}, noise: true, eot: 7")


@pytest.mark.parametrize(("attack", "cautioned"), [("pgd", True), ("{kind: square, queries: 9}", False)])
def test_validate_says_it(attack: str, cautioned: bool, tmp_path: Any) -> None:
    file = tmp_path / "study.yaml"
    lines = ["schema: 1", "name: cut", "data: digits", "recipe: imp", f"protocol: {{attack: {attack}}}"]
    lines += ["model: {kind: lenet300, active: 0.5}", "budget: {trials: 1}"]
    file.write_text("\n".join(lines))
    checked = check_file(str(file), networks=False)
    assert checked.error is None
    assert any(line.startswith("caution: lenet300") for line in checked.networks) == cautioned
