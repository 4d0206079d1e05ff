"""Who could change a file: modes and owners of it and of the folders above."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainables.core.ownership import exposed, open_to_others, unsafe_temp


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    tmp_path.chmod(0o700)
    (tmp_path / "outer").chmod(0o755)
    inner.chmod(0o755)
    return inner


@pytest.mark.parametrize(
    ("mode", "outer", "problem", "temporary"),
    [
        (0o755, 0o755, False, False),
        (0o700, 0o700, False, False),
        (0o777, 0o755, True, True),
        (0o1777, 0o755, True, False),  # Others can add files, but not replace those of this user.
        (0o755, 0o777, True, True),
        (0o755, 0o1777, False, False),
    ],
)
def test_what_others_can_write_is_exposed(folder: Path, mode: int, outer: int, problem: bool, temporary: bool) -> None:
    folder.chmod(mode)
    folder.parent.chmod(outer)
    assert bool(exposed(folder)) is problem
    assert bool(exposed(folder / "not" / "made")) is problem
    assert bool(unsafe_temp(folder)) is temporary
    link = folder.parent.parent / "link"
    link.symlink_to(folder)
    assert bool(exposed(link)) is problem, "a link is judged by where it leads"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_another_user_is_exposed(folder: Path) -> None:
    os.chown(folder, 4321, 4321)
    found = exposed(folder)
    assert found == f"{folder} belongs to user 4321"
    assert unsafe_temp(folder) == found


def test_a_group_of_several_counts_as_others(folder: Path) -> None:
    folder.chmod(0o775)
    if os.geteuid() == 0:
        os.chown(folder, 0, 4321)
        assert exposed(folder) == f"{folder} can be written by group 4321 (mode 775)"


@pytest.mark.parametrize(
    ("mode", "outer", "open_"),
    [(0o777, 0o755, True), (0o777, 0o700, False), (0o777, 0o711, True), (0o755, 0o755, False), (0o1777, 0o755, True)],
)
def test_a_folder_for_all_is_open_to_others_where_they_can_enter_it(
    folder: Path, mode: int, outer: int, open_: bool
) -> None:
    for above in folder.parents[1:]:
        if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    folder.chmod(mode)
    folder.parent.chmod(outer)
    assert bool(open_to_others(folder)) is open_
