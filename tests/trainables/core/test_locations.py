"""Paths as a person reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables.core.locations import without_parents


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("out.csv", "out.csv"),
        ("a/../out.csv", "out.csv"),
        ("../work/out.csv", "out.csv"),
        ("../other/./out.csv", "{root}/other/out.csv"),
        ("{root}/work/../out", "{root}/out"),
        ("link/../out", "{root}/out"),
        ("a..b/..c", "a..b/..c"),
    ],
)
def test_a_path_names_the_same_file_without_parents(
    given: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path.resolve()
    for folder in ("work/a", "other", "real"):
        (root / folder).mkdir(parents=True)
    (root / "work" / "link").symlink_to(root / "real")
    monkeypatch.chdir(root / "work")
    path = Path(given.format(root=root))
    assert str(without_parents(path)) == shown.format(root=root)
    assert without_parents(path).resolve() == path.resolve()
