from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.store.driver_lock import acquire, driver, request_stop, stop_requested
from trainables.store.lease import LeaseHeld
from trainables.store.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "study"))


def test_second_driver_is_refused_with_advice(storage: Storage) -> None:
    with acquire(storage) as held:
        assert held.before is None
        with pytest.raises(LeaseHeld, match=rf"is driven by process {os.getpid()} on .*stop that launch first"):
            acquire(storage)
        assert driver(storage) is not None
    assert driver(storage) is None
    assert storage.names() == []


def test_stop_request_is_seen_and_cleared_by_the_next_driver(storage: Storage) -> None:
    assert not stop_requested(storage)
    with acquire(storage):
        request_stop(storage)
        assert stop_requested(storage)
    assert stop_requested(storage)
    with acquire(storage):
        assert not stop_requested(storage)
