"""A launch whose cluster has died, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.cluster.watchdog import Interrupt
from search.files.interrupts import Interrupted

LAUNCH = """
import os, signal, sys, threading, time
from search.cluster import watchdog
from search.cluster.watchdog import Interrupt, Watchdog

watchdog.LOOK_EVERY, watchdog.PATIENCE_SECONDS, watchdog.LAST_SECONDS = 0.02, 0.1, 0.6
how = sys.argv[1]
interrupt = Interrupt()
dog = Watchdog(interrupt, lambda: print("last words", flush=True) or 6)
lives = [True]
with dog.watching(), dog.over(lambda: lives[0]), interrupt.caught():
    if how == "signalled":
        os.kill(os.getpid(), signal.SIGTERM)
    lives[0] = how == "alive"
    until = time.monotonic() + (0.6 if how == "alive" else 60)
    while time.monotonic() < until and not (how == "in order" and interrupt.cluster_died):
        try:
            time.sleep(0.01)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            if how != "deaf":
                break
print(interrupt.cluster_died, interrupt.signal)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "printed", "code"),
    [
        ("alive", ["False None"], 0),
        ("in order", ["True None"], 0),
        ("dead", ["interrupted", "True None"], 0),
        ("signalled", ["interrupted", "True 15"], 0),
        ("deaf", ["interrupted", "last words"], 6),
    ],
)
def test_a_launch_whose_cluster_has_died_ends(how: str, printed: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, how], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3]
    )
    assert (done.stdout.splitlines(), done.returncode) == (printed, code), done.stderr


@pytest.mark.parametrize(("signals", "raised"), [(1, SystemError), (2, Interrupted)])
def test_a_second_ctrl_c_that_becomes_another_error_is_still_one(signals: int, raised: type[BaseException]) -> None:
    def work() -> None:
        try:
            for _ in range(signals):
                signal.raise_signal(signal.SIGINT)
        except Interrupted:
            pass
        raise SystemError("returned a result with an exception set")

    with pytest.raises(raised), Interrupt().caught():
        work()


def test_a_second_ctrl_c_within_code_given_as_text_leaves_the_exit_code(tmp_path: Path) -> None:
    """Dataclasses, for one, make their methods of text, also while a plug-in or a library is imported."""
    (tmp_path / "twice.py").write_text(
        "import os, signal, sys\n"
        "from search.cluster.watchdog import Interrupt\n"
        "with Interrupt().caught():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    try:\n"
        "        exec('os.kill(os.getpid(), signal.SIGINT)')\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[3]}{os.pathsep}{tmp_path}"}
    assert subprocess.run([sys.executable, "-m", "twice"], env=environment, timeout=60).returncode == 130
