"""Which code is sent to the workers of which cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

import trainables
from search.cluster.spec import Address, Inline, Local
from search.launch.code import code_paths
from trainables.core.errors import SpecError


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a_plugin_of_mine.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "a_plugin_of_mine.py"


def test_plugins_are_sent_but_for_those_that_are_installed(plugin: Path) -> None:
    mine, installed = "a_plugin_of_mine", "pydantic.fields"
    assert code_paths(Address(), (mine, installed)) == (str(plugin),)
    assert len(code_paths(Local(), (mine, installed))) == 2
    assert code_paths(Inline(), (mine, installed)) == ()


def test_the_project_is_sent_where_the_cluster_file_says_so(plugin: Path) -> None:
    shipped = code_paths(Address(code="ship"), ("a_plugin_of_mine",))
    assert shipped == (str(plugin), str(Path(trainables.__file__).parent))
    assert code_paths(Address(), ()) == ()


def test_a_plugin_that_cannot_be_found_is_refused() -> None:
    with pytest.raises(SpecError, match="no_such_plugin is neither installed here nor in the current directory"):
        code_paths(Inline(), ("no_such_plugin.models",))
