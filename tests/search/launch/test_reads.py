"""A command reads, resolves and validates a study once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from search.files import yaml
from search.launch import api
from search.study import spec as study_spec
from tests.search.command import run
from tests.search.tiny import FIELDS as TINY
from trainables.store import paths
from trainables.store.storage import Storage


@dataclass
class Counts:
    """How often study files were read, parsed as YAML, and validated."""

    reads: int = 0
    parses: int = 0
    validations: int = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    found = Counts()
    read, parse, check = Storage.read, yaml.parse, study_spec.wrong_space

    def counted_read(self: Storage, path: str) -> bytes:
        found.reads += path in (paths.STUDY, paths.STUDY_COPY)
        return read(self, path)

    def counted_parse(*arguments: Any) -> Any:
        found.parses += 1
        return parse(*arguments)

    def counted_check(*arguments: Any) -> Any:
        found.validations += 1
        return check(*arguments)

    monkeypatch.setattr(Storage, "read", counted_read)
    monkeypatch.setattr(yaml, "parse", counted_parse)
    monkeypatch.setattr("search.study.file.parse", counted_parse)
    monkeypatch.setattr(study_spec, "wrong_space", counted_check)
    return found


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a study whose only trial has ended."""
    root = tmp_path_factory.mktemp("storage")
    api.launch(TINY, cluster="inline", storage=root, trials=1, quiet=True)
    return root


@pytest.mark.slow
def test_a_new_study_is_validated_once(tmp_path: Path, counts: Counts) -> None:
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY))
    options = ("--cluster", "inline", "--storage", str(tmp_path / "runs"), "--trials", "1")
    assert run("launch", str(tmp_path / "tiny.yaml"), *options).exit_code == 0
    # The one read checks, under the lease, whether another process has created the study meanwhile.
    assert counts == Counts(reads=1, parses=1, validations=1)


SETTINGS = ("max_failures=3", "abort_after=4", "budget.trials=1", "description=Again")


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), SETTINGS])
def test_a_stored_study_is_parsed_once_however_many_values_are_overridden(
    settings: tuple[str, ...], storage: Path, counts: Counts
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    result = run("launch", "tiny", "--cluster", "inline", "--storage", str(storage), *words)
    assert result.exit_code == 0, result.stderr
    # The second read compares the bytes with what was planned, now that the lease is held.
    assert (counts.reads, counts.validations) == (2, 2 if settings else 1)
    # Each value is YAML too.
    assert counts.parses == 1 + len(settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["status", "tiny"],
        ["front", "tiny"],
        ["export", "tiny"],
        ["gc", "tiny"],
        ["doctor", "tiny"],
        ["launch", "tiny", "--dry-run"],
        ["status"],
    ],
    ids=" ".join,
)
def test_a_command_reads_a_stored_study_once(command: list[str], storage: Path, counts: Counts) -> None:
    assert run(*command, "--storage", str(storage)).exit_code == 0
    assert counts == Counts(reads=1, parses=1, validations=1)


@pytest.mark.slow
def test_a_study_that_another_launch_changed_is_planned_again(storage: Path) -> None:
    plan = api.plan("tiny", cluster="inline", storage=storage, trials="+1")
    assert not plan.outdated()
    api.launch("tiny", cluster="inline", storage=storage, trials=3, quiet=True)
    assert plan.outdated()
    study = api.launch(plan, quiet=True)
    assert study.spec.budget.trials == 4, "one more than the other launch has run"
    assert len(study.records.trials()) == 4
