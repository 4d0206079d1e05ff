"""What SIGTERM does to a worker, by signals to this process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from trainables.worker import preemption
from trainables.worker.preemption import Preempted, Preemption


class Earlier(Exception):
    """Raised by the handler that was there before."""


@pytest.fixture
def handler() -> Iterator[Preemption]:
    """A preemption installed over a handler that raises `Earlier`."""

    def earlier(number: int, frame: object) -> None:
        raise Earlier

    before = signal.signal(signal.SIGTERM, earlier)
    installed = Preemption()
    yield installed
    installed.restore()
    assert signal.getsignal(signal.SIGTERM) is earlier
    signal.signal(signal.SIGTERM, before)


def terminate(times: int = 1, seconds: float = 0.0) -> None:
    """Send SIGTERM to this process, then stay busy."""
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)


def test_without_a_trial_the_earlier_handler_gets_the_signal(handler: Preemption) -> None:
    with pytest.raises(Earlier):
        terminate()
    assert not handler.requested


def test_the_first_signal_only_sets_the_request(handler: Preemption) -> None:
    handler.trial_running = True
    with handler.interruptible():
        terminate()
    assert handler.requested


def test_the_second_signal_interrupts(handler: Preemption) -> None:
    handler.trial_running = True
    with pytest.raises(Preempted), handler.interruptible():
        terminate(times=2)
    with pytest.raises(Earlier):
        terminate()


def test_the_grace_period_interrupts_by_itself(handler: Preemption, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "GRACE_SECONDS", 0.05)
    handler.trial_running = True
    with pytest.raises(Preempted), handler.interruptible():
        terminate(seconds=5)


def test_no_signal_interrupts_the_saving(handler: Preemption, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "GRACE_SECONDS", 0.05)
    handler.trial_running = True
    terminate()
    handler.ignore_more()
    with handler.interruptible():
        terminate(seconds=0.1)
    handler.trial_running = False
    with pytest.raises(Earlier):
        terminate()


def test_no_error_handler_takes_a_preemption_for_a_failure() -> None:
    assert not issubclass(Preempted, Exception)
