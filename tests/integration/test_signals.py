"""Signals at every moment of a launch: the exit code, the last line, what is left, and that the study resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from benchmarks.nodes import title
from search.cluster.folder import PREFIX, VARIABLE
from tests.integration.waiting import wait_for
from tests.search.tiny import TINY, conclusion, numbers, outcomes

pytestmark = pytest.mark.slow

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
STUDY = TINY.replace("trials: 4", "trials: 6")


@dataclass
class Launch:
    """A launch as a process of its own, in a folder of its own for temporary files."""

    process: subprocess.Popen[str]
    temporary: Path
    runs: Path
    log: Path

    @property
    def err(self) -> str:
        return self.log.read_text()

    def send(self, how: str) -> None:
        """Send a signal to the driver, to all processes of its group, or twice."""
        name, _, whom = how.partition(" ")
        number = signal.Signals[name]
        deliver = os.killpg if whom else os.kill
        for left in range(2 if whom == "twice" else 1, 0, -1):
            deliver(self.process.pid, number)
            if left > 1:
                time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """The processes that were started for a launch with this folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(VARIABLE, "").startswith(str(self.temporary)):
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def begin(tmp_path: Path, short_path: Path) -> Iterator[Callable[..., Launch]]:
    """Start a launch of the study on a kind of cluster."""
    (tmp_path / "tiny.yaml").write_text(STUDY)
    (tmp_path / "local.yaml").write_text("kind: local\ncpus: 2\n")
    begun: list[subprocess.Popen[str]] = []

    def begin(cluster: str, *more: str) -> Launch:
        log = tmp_path / f"{len(begun)}.err"
        with log.open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "search.console", "launch", "tiny.yaml", "--cluster", cluster, *more],
                stdout=subprocess.DEVNULL,
                stderr=err,
                text=True,
                cwd=tmp_path,
                env={**os.environ, "TMPDIR": str(short_path), "PYTHONPATH": str(Path(__file__).parents[2])},
                start_new_session=True,
            )
        begun.append(process)
        return Launch(process, short_path, tmp_path / "runs" / "tiny", log)

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()
            process.wait()


def ended(launch: Launch, how: str) -> int:
    """Wait for the end and check all that holds for every moment; return the exit code."""
    number = signal.Signals[how.split()[0]]
    code = launch.process.wait(timeout=120)
    err = launch.err
    assert code in (CODES[number], 0), err
    assert "Traceback" not in err, err
    last = conclusion(err)
    if code:
        told = "with the same study resumes it in", "the same command starts it", "the same command starts again"
        assert any(words in last for words in told), err
    else:
        assert "6 of 6 trials complete" in last, err
    assert list(launch.temporary.glob(f"{PREFIX}*")) == []
    wait_for(lambda: launch.processes() == [], 10)
    return code


def sweep(begin: Callable[[str], Launch], cluster: str, moments: list[tuple[float, str]]) -> None:
    """Send a signal at each moment, in seconds since the start, and resume at the next; finish the study at last."""
    saved: dict[str, bytes] = {}
    for moment, how in moments:
        launch = begin(cluster)
        time.sleep(moment)
        launch.send(how)
        ended(launch, how)
        now = outcomes(launch.runs)
        assert {name: now[name] for name in saved} == saved, "an outcome was lost"
        saved = now
    last = begin(cluster)
    assert last.process.wait(timeout=240) == 0, last.err
    assert sorted(outcomes(last.runs)) == numbers(6)
    assert {name: outcomes(last.runs)[name] for name in saved} == saved
    assert list(last.temporary.glob(f"{PREFIX}*")) == []


KINDS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGTERM group", "SIGINT twice")


@pytest.mark.timeout(300)
def test_a_signal_at_any_moment_without_ray(begin: Callable[[str], Launch]) -> None:
    moments = (0.15, 0.3, 0.5, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0)
    sweep(begin, "inline", [(moment, KINDS[at % len(KINDS)]) for at, moment in enumerate(moments)])


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_signal_at_any_moment_with_ray(begin: Callable[[str], Launch]) -> None:
    kinds = ("SIGTERM", "SIGHUP", "SIGTERM", "SIGINT", "SIGTERM group", "SIGINT twice")
    sweep(begin, "local.yaml", list(zip((1.0, 3.0, 5.0, 7.0, 9.0, 11.0), kinds, strict=True)))


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", KINDS)
def test_a_signal_at_every_half_second_with_ray(begin: Callable[[str], Launch], how: str) -> None:
    for step in range(1, 41):
        launch = begin("local.yaml")
        time.sleep(step / 2)
        launch.send(how)
        code = ended(launch, how)
        print(f"{step / 2:4.1f} s  {how:13}  {code:3}  {conclusion(launch.err)}")


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_only_the_user_and_the_loopback_reach_a_launch(begin: Callable[..., Launch]) -> None:
    launch = begin("local.yaml", "--trials", "500")  # The dashboard comes some seconds after the first trial.
    wait_for(lambda: "Ray dashboard: " in launch.err or launch.process.poll() is not None, 120)
    family = [psutil.Process(launch.process.pid), *launch.processes()]
    assert len(family) > 5, launch.err
    listening, arguments = set(), ""
    for process in family:
        try:
            listening |= {c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN}
            arguments += " ".join(process.cmdline())
        except psutil.Error:
            continue
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert listening
    token = Path.home() / ".robustsearch" / "ray_token"
    assert not token.is_file() or token.read_text() not in arguments + launch.err
    (folder, *_) = [place for place in launch.temporary.glob(f"{PREFIX}*") if list(place.glob("r/session_*"))]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "r" / "session_latest" / "runtime_resources").is_dir(), "what is shipped to workers lies below it"
    outside = [place for place in launch.temporary.iterdir() if not place.name.startswith(PREFIX)]
    assert [place for place in outside if place.stat().st_mode & 0o022] == []
    launch.send("SIGTERM")
    assert ended(launch, "SIGTERM") == 143


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("vital", "probing"),
    [
        pytest.param("raylet", False, marks=pytest.mark.long),
        ("raylet", True),
    ],
)
def test_a_ray_that_dies_before_the_first_trial_is_a_fault_of_the_cluster(
    begin: Callable[[str], Launch], vital: str, probing: bool
) -> None:
    launch = begin("local.yaml")

    def there() -> list[psutil.Process]:
        if probing and not any("ray::probe" in title(process) for process in launch.processes()):
            return []
        return [child for child in psutil.Process(launch.process.pid).children() if child.name() == vital]

    wait_for(lambda: bool(there()), 60)
    there()[0].kill()
    code = launch.process.wait(timeout=120)
    assert code == 6 or (code == 0 and not probing), launch.err
    last = conclusion(launch.err)
    assert last.startswith("the Ray cluster has died; " if code else "6 of 6 trials complete"), launch.err
    assert "Traceback" not in launch.err
    assert list(launch.temporary.glob(f"{PREFIX}*")) == []


@pytest.mark.ray
@pytest.mark.parametrize(("failures", "tries"), [(0, 1), (2, 3), (3, 3)])
def test_a_ray_that_does_not_come_up_is_started_again(
    failures: int, tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from search.cluster import ray_start

    calls: list[str] = []

    def init(_temp_dir: str, job_config: object) -> str:
        calls.append(_temp_dir)
        if len(calls) <= failures:
            raise Exception("The current node timed out during startup.")
        return "up"

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def start() -> object:
        return ray_start.start({}, tmp_path, (), 1, 2, lambda: None)

    if failures < 3:
        assert start() == "up"
    else:
        with pytest.raises(Exception, match="timed out during startup"):
            start()
    assert calls == [str(tmp_path / "r")] * tries
