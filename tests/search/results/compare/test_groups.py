from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from search.results.compare.comparison import compare
from search.results.compare.groups import groups_of
from tests.search import factories
from trainables.core.errors import SpecError
from trainables.store.storage import Storage


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("storage")
    for name in ("imp-1", "imp-2", "imp-10", "harp"):
        factories.make_study(root / name, 1, factories.study_spec(name=name))
    return root


@pytest.mark.parametrize(
    ("arguments", "groups"),
    [
        (["harp", "imp-1"], {"harp": ["harp"], "imp-1": ["imp-1"]}),
        (["imp-*"], {"imp-*": ["imp-1", "imp-10", "imp-2"]}),
        (["imp=imp-1, imp-2", "harp"], {"imp": ["imp-1", "imp-2"], "harp": ["harp"]}),
        (["lottery = tickets=imp-1?,imp-*"], None),
        (["a=imp-1,imp-1*", "b=harp"], {"a": ["imp-1", "imp-10"], "b": ["harp"]}),
    ],
)
def test_each_argument_is_a_group(root: Path, arguments: list[str], groups: dict[str, list[str]] | None) -> None:
    if groups is None:
        with pytest.raises(SpecError, match=r"imp-1\?"):
            groups_of(Storage(str(root)), arguments)
        return
    found = groups_of(Storage(str(root)), arguments)
    assert {group.label: [study.name for study in group.studies] for group in found} == groups


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["harp"], "two studies or more"),
        (["harp", "harp"], "the label 'harp' is named twice"),
        (["a=harp", "harp"], "the study 'harp' is named twice"),
        (["x*", "harp"], r"is named 'x\*' \(stored: harp, imp-1"),
        (["=harp", "imp-1"], "no label before '='"),
        (["hrap", "imp-1"], "there is no study 'hrap'.*did you mean 'harp'"),
        (["a=", "imp-1"], "is not a name for a study"),
    ],
)
def test_what_names_no_groups_is_refused(root: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        groups_of(Storage(str(root)), arguments)


def test_a_copy_has_the_name_of_its_directory(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "harp", tmp_path / "harp")
    shutil.copytree(root / "harp", tmp_path / "copy")
    found = compare(groups_of(Storage(str(tmp_path)), ["harp", "copy"]))
    assert [group.runs[0].study for group in found.groups] == ["harp", "copy"]
