"""A worker that hangs, stops or dies: its supervisor notices, ends it where it may, and says what happened.

The workers are small processes of Python without torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from trainables.core import heartbeat
from trainables.core.errors import TimedOut
from trainables.store import paths
from trainables.worker import supervision as module
from trainables.worker import supervisor
from trainables.worker.supervision import supervised, supervision
from trainables.worker.supervisor import Order

WORKER = """
import ctypes, os, signal, sys, threading, time
from trainables.core import heartbeat
from trainables.worker.supervision import supervised, supervision
from trainables.worker.supervisor import Order

def work(how):
    supervision().doing("phase 2 of 5 (train), after epoch 3 of 10")
    if how == "sleep":
        while True:
            time.sleep(0.1)
    if how == "loop":
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass
    if how == "lock of Python":
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    if how == "deadlock":
        threading.Lock().acquire() and (lock := threading.Lock()).acquire() and lock.acquire()
    if how == "signals blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        time.sleep(60)
    if how == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "busy":
        for _ in range(600):
            heartbeat.beat()
            time.sleep(0.1)
    if how == "read of nothing":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(7)
    if how == "abort":
        os.abort()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "killed with its group":
        os.killpg(0, signal.SIGKILL)

storage, how, silence, trial = sys.argv[1:]
with supervised(Order(3, storage, float(silence), float(trial), kill=True)):
    work(how)
"""


def run(tmp_path: Path, how: str, silence: float = 0.5, trial: float = 60) -> tuple[int, dict[str, Any]]:
    """Run a worker; return how it ended and the report on it."""
    report = tmp_path / paths.worker_report(3)
    report.parent.mkdir(parents=True, exist_ok=True)
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path), how, str(silence), str(trial)],
        check=False,
        timeout=40,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[3],
        process_group=0,
    )
    until = time.monotonic() + 10
    while worker.returncode and not report.exists() and time.monotonic() < until:
        time.sleep(0.02)
    found = json.loads(report.read_bytes()) if report.exists() else {}
    assert sorted(path.name for path in report.parent.iterdir()) == ["worker.json"] * bool(found)
    return worker.returncode, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "where"),
    [
        ("lock of Python", "<string>, line "),
        ("stopped", "its process is stopped"),
        ("sleep", "<string>, line "),
        ("loop", ", in work"),
        ("deadlock", "<string>, line "),
        ("signals blocked", ""),
    ],
)
def test_a_worker_that_hangs_is_killed_wherever_it_is(tmp_path: Path, how: str, where: str) -> None:
    code, report = run(tmp_path, how)
    assert code == -signal.SIGKILL
    assert report["kind"] == "timeout"
    said = "the trial showed no progress for 0.5 s, the limit timeouts.silence of the study: "
    assert report["message"].startswith(said)
    assert where in report["message"]
    assert ("in work" in report["traceback"]) == (how not in ("stopped", "signals blocked"))


@pytest.mark.slow
def test_progress_is_no_silence_but_a_trial_has_a_limit_too(tmp_path: Path) -> None:
    code, report = run(tmp_path, "busy", silence=0.8, trial=1.5)
    assert code == -signal.SIGKILL
    assert report["message"].startswith("the trial worked for 1.5 s, the limit timeouts.trial of the study: ")


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("read of nothing", "SIGSEGV (exit code -11), in ctypes/__init__.py"),
        ("exit", "exit code 7, by <string>, line "),
        ("abort", "SIGABRT (exit code -6), in <string>, line "),
        ("killed", "SIGKILL (exit code -9), or an exit that left no trace"),
        ("killed with its group", "SIGKILL (exit code -9), or an exit that left no trace"),
    ],
)
def test_the_death_of_a_worker_is_explained(tmp_path: Path, how: str, cause: str) -> None:
    code, report = run(tmp_path, how)
    assert code != 0
    assert report["kind"] == "crashed"
    assert report["message"].startswith(f"its worker process died, phase 2 of 5 (train), after epoch 3 of 10: {cause}")
    if sys.platform == "linux":
        used = float(report["message"].rpartition("it had used ")[2].removesuffix(" GB"))
        assert 0 < used < 8


def test_a_worker_that_ends_well_leaves_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "nothing") == (0, {})


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """An order that interrupts this process."""
    return Order(0, str(tmp_path), silence=0.3, trial=None, kill=False)


@pytest.mark.slow
def test_where_the_process_is_not_the_trials_own_its_work_is_interrupted(order: Order) -> None:
    handler = signal.getsignal(supervisor.INTERRUPT_SIGNAL)
    where = r"no progress for 0\.3 s.*test_supervision\.py, line \d+, in test_where"
    with pytest.raises(TimedOut, match=where), supervised(order):
        time.sleep(30)
    assert signal.getsignal(supervisor.INTERRUPT_SIGNAL) is handler
    with supervised(order):
        for _ in range(6):
            time.sleep(0.1)
            heartbeat.beat()


@pytest.mark.slow
def test_between_two_steps_of_a_trial_nothing_is_silent(order: Order) -> None:
    own = supervision()
    assert own is not None
    own.order(order)
    time.sleep(0.8)
    with own.working(interruptible=True):
        pass
    own.order(None)


@pytest.mark.slow
def test_a_debugger_that_waits_for_its_user_is_not_interrupted(order: Order) -> None:
    waiting: dict[str, Any] = {"__name__": "pdb", "time": time}
    exec("def prompt():\n    time.sleep(1)", waiting)
    with supervised(order):
        waiting["prompt"]()


@pytest.mark.slow
def test_a_thread_other_than_the_main_one_is_only_watched(order: Order, capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with supervised(order):
            time.sleep(0.1)
        done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert done


@pytest.mark.slow
def test_work_without_a_supervisor_is_not_watched(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: Any, **named: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(module, "_own", None)
    monkeypatch.setattr(subprocess, "Popen", none)
    with supervised(order):
        time.sleep(0.5)


@pytest.mark.parametrize(("before", "after", "kind"), [(3, 4, "oom"), (3, 3, "crashed")])
def test_a_kill_by_the_system_for_memory_is_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int, kind: str
) -> None:
    own = supervision()
    assert own is not None
    (tmp_path / paths.trial(3)).mkdir(parents=True)
    counts = iter([before, after])
    monkeypatch.setattr(supervisor, "_out_of_memory_kills", lambda: next(counts))
    # The process's own may hold a stack that another test has left.
    empty = os.open(tmp_path / "stack", os.O_CREAT | os.O_RDWR)
    watcher = supervisor.Supervisor(own.pid, own._shared, empty)
    watcher._take({"number": 3, "storage": str(tmp_path), "silence": 1, "trial": None, "kill": True})
    watcher._died()
    os.close(empty)
    report = json.loads((tmp_path / paths.worker_report(3)).read_bytes())
    assert report["kind"] == kind


def test_a_storage_that_hangs_too_does_not_keep_a_worker_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = supervision()
    assert own is not None
    monkeypatch.setattr(supervisor, "REPORT_SECONDS", 0.1)
    killed: list[int] = []
    monkeypatch.setattr(supervisor.os, "kill", lambda pid, number: killed.append(number))
    watcher = supervisor.Supervisor(own.pid, own._shared, own._stack)
    watcher._take({"number": 3, "storage": str(tmp_path), "silence": 1, "trial": None, "kill": True})
    monkeypatch.setattr(watcher._storage, "write", lambda *content: threading.Event().wait())
    monkeypatch.setattr(watcher, "_read_orders", lambda: False)
    watcher._expire("silence", 1, stopped=True)
    assert killed == [signal.SIGKILL]
