"""The Python API: what a notebook calls."""

from __future__ import annotations

import inspect
import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import search
from search.launch import api
from search.launch.tally import Snapshot
from search.results.study import Study
from tests.search.tiny import FIELDS as TINY
from trainables.core.errors import ExitCode, RobustsearchError, SpecError

IMPORTS = ("import search", "import search.launch.plan", "from search.launch import run", "import search.launch")


@pytest.mark.parametrize("imports", list(itertools.permutations(IMPORTS, 2)), ids=" then ".join)
@pytest.mark.slow
def test_search_launch_is_a_function_and_a_package_whatever_is_imported_first(imports: tuple[str, ...]) -> None:
    code = "\n".join(
        [
            *imports,
            "import search, search.launch.plan, search.launch.run",
            "assert callable(search.launch), search.launch",
            "assert search.launch.plan.__name__ == 'search.launch.plan'",
            "assert search.plan is not search.launch.plan",
            "from search import launch, plan, Study",
            "assert launch is search.launch and plan is search.plan",
        ]
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_the_function_has_the_signature_of_the_one_behind_it() -> None:
    assert inspect.signature(search.launch) == inspect.signature(api.launch)
    assert api.launch.__doc__
    assert search.launch.__doc__


@pytest.mark.slow
def test_a_file_a_name_and_a_mapping_are_studies(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY))
    options: dict[str, Any] = {"cluster": "inline", "storage": tmp_path / "runs", "quiet": True}
    first = search.launch(tmp_path / "tiny.yaml", trials=1, **options)
    assert isinstance(first, Study)
    assert first.ending is not None
    assert first.ending.exit_code == ExitCode.DONE
    again = search.launch("tiny", trials="+1", **options)
    assert len(again.trials()) == 2
    whole = search.launch(TINY, name="other", trials=1, overrides={"recipe.train.eps": 0.05}, **options)
    assert whole.name == "other"
    assert float(whole.spec.recipe.train.eps) == 0.05  # type: ignore[arg-type]
    assert TINY["name"] == "tiny", "the mapping stays as it is"


@pytest.mark.slow
def test_a_plan_starts_nothing_and_can_be_launched(tmp_path: Path) -> None:
    plan = search.plan(TINY, cluster={"kind": "inline"}, storage=tmp_path, trials=1)
    assert (plan.spec.name, plan.exists, list(tmp_path.iterdir())) == ("tiny", False, [])
    assert search.launch(plan, quiet=True).ending is not None
    with pytest.raises(TypeError, match="a plan has its own trials, allow_change"):
        search.launch(plan, trials=2, allow_change=True, quiet=True)


def test_an_override_may_be_one_text_and_hold_a_path(tmp_path: Path) -> None:
    one = search.plan(TINY, storage=tmp_path, overrides="recipe.train.eps=0.05")
    assert float(one.spec.recipe.train.eps) == 0.05  # type: ignore[arg-type]
    folder = search.plan(TINY, storage=tmp_path, overrides={"data.root": tmp_path})
    assert folder.spec.data.root == str(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"study": "no-such-study"}, "neither a file nor a built-in study"),
        ({"study": {**TINY, "modle": "x"}}, "did you mean 'model'"),
        ({"trials": 0}, "expected a positive number"),
        ({"cluster": "lokal"}, "'lokal' is neither a cluster file nor a kind of cluster; .* did you mean 'local'"),
        ({"cluster": "lokal.yaml"}, "cannot read lokal.yaml"),
        ({"cluster": {"kind": "lokal"}}, "did you mean 'local'"),
        ({"name": "a/b"}, "not a name for a study"),
        ({"overrides": {"recipe.epoch": 3}}, "epoch"),
    ],
)
def test_what_cannot_run_raises_an_error_of_ours(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"study": TINY, "cluster": "inline", "storage": tmp_path, **arguments}
    with pytest.raises(RobustsearchError, match=message):
        search.launch(**options)
    with pytest.raises(SpecError):
        search.plan(**options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_progress_is_printed_given_to_a_view_or_kept_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Snapshot] = []
    search.launch(TINY, cluster="inline", storage=tmp_path, trials=1)
    printed = capsys.readouterr()
    assert "1/1 trials complete" in printed.err
    search.launch("tiny", cluster="inline", storage=tmp_path, trials=2, view=seen.append)
    assert "trials complete" not in capsys.readouterr().err
    assert seen[-1].complete == 2
    search.launch("tiny", cluster="inline", storage=tmp_path, trials=3, quiet=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_a_launch_works_in_a_thread_that_handles_no_signals(tmp_path: Path) -> None:
    found: list[Study] = []
    work = threading.Thread(
        target=lambda: found.append(search.launch(TINY, cluster="inline", storage=tmp_path, trials=1, quiet=True))
    )
    work.start()
    work.join()
    assert found[0].front()
