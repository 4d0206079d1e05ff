"""What is left out beside a network's weights, and that nobody's code runs unasked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.core.errors import SpecError
from trainables.export import portable
from trainables.store.state import State

ACCURACY = {"value": 0.5, "low": 0.4, "high": 0.6, "correct": 5, "examples": 10}
CARD: dict[str, Any] = {
    "point": "t0.1",
    "study": "mine",
    "model": {"kind": "their_net"},
    "plugins": ["their_kinds"],
    "shape": [1, 2, 2],
    "classes": 3,
    "data": {"kind": "their_data", "sha256": "0" * 64},
    "protocol": {
        "attack": {"kind": "pgd"},
        "label": "PGD-20",
        "norm": "linf",
        "eps": 0.1,
        "eps_text": "0.1",
        "examples": 10,
    },
    "robust_accuracy": ACCURACY,
    "clean_accuracy": ACCURACY,
    "flags": ["`masked`\n# no heading"],
    "device": "cpu",
}
STATE = State({"w": torch.zeros(3, 4)}, {}, {"w": torch.ones(3, 4, dtype=torch.bool)})


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plug-in in the current directory that leaves a file where it is imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "their_kinds.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.setitem(sys.modules, "their_kinds", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "their_kinds")
    return tmp_path / "ran"


def test_the_model_of_a_plugin_is_not_built_unasked(plugin: Path, tmp_path: Path) -> None:
    made = portable.portable(tmp_path / "net", STATE, CARD, data=CARD["data"], verdicts="")
    assert not plugin.exists()
    assert set(made.files) == {"README.md"}
    assert made.notes == [
        "left out model.pt2: the model their_net is of the plug-ins their_kinds, whose code runs only with --program",
        "left out examples.csv: the data set their_data is of a plug-in",
    ]
    readme = made.files["README.md"].decode()
    assert 'net = saved.load(".", allow_plugins=True)' in readme
    assert "\n# no heading" not in readme


def test_asked_for_it_is_built_by_the_plugins_code(plugin: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="unknown model 'their_net'"):
        portable.portable(tmp_path / "net", STATE, CARD, data=CARD["data"], verdicts="", run_plugins=True)
    assert plugin.exists()
