"""Printing to a stream that nobody reads any more."""

from __future__ import annotations

import errno
import io

import pytest

from search.cli.console import Out


class _Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_pipe_closed_between_two_prints_is_distinguished_from_other_failures() -> None:
    with pytest.raises(BrokenPipeError) as caught:
        Out(_Closed()).print("text")
    # By this number the command line knows that it is not a bug.
    assert caught.value.errno == errno.EPIPE
