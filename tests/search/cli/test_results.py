from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.results.exporters import TRACKERS
from tests.search.command import run
from tests.search.factories import make_study


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("storage")
    make_study(root / "synthetic", 2)
    return root


@pytest.mark.parametrize("format", TRACKERS)
def test_a_tracker_is_refused_before_any_work(
    storage: Path, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x"
    monkeypatch.setattr(TRACKERS[format], "modules", ("no_such_library",))
    monkeypatch.setattr(TRACKERS[format], "write", lambda *_: pytest.fail("it writes"))
    for more, message in (
        (["--output", target], f"no_such_library, which is not installed: pip install 'robustsearch[{format}]'"),
        (["--output", target, "--what", "front"], f"{format} takes all trials, with their points; leave --what out"),
        (["--output", target, "--reference", "piras2024"], "--reference is for points"),
        ([], f"{format} writes a directory; name one with --output"),
    ):
        result = run("export", "synthetic", "--storage", storage, "--format", format, *more, "--json")
        assert result.exit_code == 2
        assert message in json.loads(result.stdout)["error"]["message"]
    assert not target.exists()
