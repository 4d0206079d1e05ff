"""Printing to a stream that nobody reads any more."""

from __future__ import annotations

import errno
import io

import pytest

from search.cli.console import Out, print_table, table


class _Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_pipe_closed_between_two_prints_is_distinguished_from_other_failures() -> None:
    with pytest.raises(BrokenPipeError) as caught:
        Out(_Closed()).print("text")
    # By this number the command line knows that it is not a bug.
    assert caught.value.errno == errno.EPIPE


@pytest.mark.parametrize("width", [30, 40, 70, 120])
def test_no_terminal_is_too_narrow_for_a_number(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(Out, "is_terminal", True)
    console = Out(io.StringIO())
    console.width = width
    row = ("t1.1", "32.3", "66.5 [59.7, 72.7]", "83.0", "recipe.sparsity=0.323 recipe.train.eps=0.06")
    print_table(console, table(console, ("point", "sparsity %", "robust %", "clean %", "parameters"), [row], (1, 2, 3)))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert all(word in printed for word in ("point", "sparsity %", "clean %", *row[:4]))
    assert max(map(len, printed.splitlines())) <= max(width, 64)
