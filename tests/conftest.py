"""Shared fixtures. One thread per process: a trial owns one core."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# How long an example takes is the machine's affair.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _decoded_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests and their subprocesses decode out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTSEARCH_CACHE", str(tmp_path_factory.mktemp("decoded")))
        yield
