"""What every storage has to do for studies, shown on a disk and on servers of objects with several real processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psutil
import pytest

from search.files import yaml
from tests.infra import stores
from tests.infra.conftest import require
from tests.infra.machines import poll
from tests.infra.stores import Place
from tests.search.tiny import TINY
from trainables.store import lease, paths
from trainables.store.lease import Holder, LeaseHeld
from trainables.store.storage import Address, Storage

pytestmark = [pytest.mark.infra, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
RACES, RACERS = 20, 4


@pytest.fixture(scope="module")
def google() -> Iterator[Place]:
    with stores.google() as place:
        yield place


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if stores.shutil.which(stores.AZURITE) is None:
        pytest.skip("azurite not installed (npm install --global azurite)")
    require("setpriv")
    with stores.azurite(tmp_path_factory.mktemp("azurite")) as place:
        yield place


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The storage that a test is for, with a directory of its own."""
    if request.param == "disk":
        return Place(str(tmp_path / "runs"))
    found = request.getfixturevalue(request.param)
    found = found if isinstance(found, Place) else stores.of_s3(found)
    for name, value in found.credentials.items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return replace(found, root=f"{found.root}/{tmp_path.name}")


everywhere = pytest.mark.parametrize("place", ["disk", "seaweedfs", "google", "azurite"], indirect=True)
remote = pytest.mark.parametrize("place", ["seaweedfs", "google", "azurite"], indirect=True)


def races(place: Place, race: Callable[[Storage, int, int], object]) -> list[list[Any]]:
    """Run races in processes that start each at one instant; return the answers of each race."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(RACERS), context.SimpleQueue()
    address = place.storage("races").address
    racers = [context.Process(target=_racer, args=(address, race, barrier, answers, n)) for n in range(RACERS)]
    for racer in racers:
        racer.start()
    found = [answers.get() for _ in range(RACERS)]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    return [list(each) for each in zip(*found, strict=True)]


def _racer(
    address: Address, race: Callable[[Storage, int, int], object], barrier: Barrier, answers: Any, racer: int
) -> None:
    storage, found = Storage(address), []
    storage.exists("warm")
    for number in range(RACES):
        barrier.wait(120)
        found.append(race(storage, number, racer))
    answers.put(found)


def _claim(storage: Storage, number: int, racer: int) -> bool:
    return storage.claim(f"{number}/record", b"the same of everybody")


def _take_over(storage: Storage, number: int, racer: int) -> str | None:
    try:
        return lease.acquire(storage, f"{number}.json").token
    except LeaseHeld:
        return None


@everywhere
def test_of_processes_that_claim_one_record_exactly_one_gets_it(place: Place) -> None:
    assert [sorted(answers) for answers in races(place, _claim)] == [[False] * (RACERS - 1) + [True]] * RACES


@everywhere
def test_of_processes_that_take_over_a_dead_lease_exactly_one_gets_it(place: Place) -> None:
    storage = place.storage("races")
    dead = replace(Holder.here(), host="elsewhere", heartbeat=time.time() - 1000)
    for number in range(RACES):
        storage.write(f"{number}.json", json.dumps(asdict(dead)).encode())
    for number, tokens in enumerate(races(place, _take_over)):
        won = [token for token in tokens if token is not None]
        assert len(won) == 1
        holder = lease.holder(storage, f"{number}.json")
        assert holder is not None
        assert holder.token == won[0]


@everywhere
def test_a_lease_that_was_taken_over_is_lost_at_the_next_beat(place: Place) -> None:
    storage = place.storage("lease")
    with lease.acquire(storage, "one.json") as held:
        held.beat()
        held.beat()
        held.check()
        other = replace(Holder.here(), token="another")
        storage.write("one.json", json.dumps(asdict(other)).encode())
        held.beat()
        with pytest.raises(LeaseHeld):
            held.check()
    assert lease.holder(storage, "one.json") == other


@everywhere
def test_listings_sizes_and_deletions_go_on_after_a_thousand_objects(place: Place) -> None:
    storage = place.storage("many")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: storage.write(f"trials/{n:05d}/trial.json", b"12"), range(1200)))
    assert storage.names("trials") == [f"{number:05d}" for number in range(1200)]
    assert storage.names() == ["trials"]
    assert storage.size("") == 2400
    assert 0 <= storage.age("trials/00000/trial.json", time.time() + 3) < 250
    storage.delete_directory("trials/00001")
    assert not storage.exists("trials/00001/trial.json")
    assert storage.size("trials") == 2398
    storage.delete_directory("trials")
    assert not storage.exists("trials/00000/trial.json")
    assert storage.size("") == 0


WRITER = """
import json, sys
from trainables.store.storage import Storage
storage = Storage(json.loads(sys.argv[1]))
storage.write("big", b"0" * 20_000_000)
print("written", flush=True)
number = 0
while True:
    number += 1
    storage.write("big", b"%d" % (number % 10) * 20_000_000)
"""


@everywhere
def test_a_process_killed_while_it_writes_leaves_a_whole_file(place: Place) -> None:
    storage, seen = place.storage("torn"), set()
    for _ in range(3):
        words = [sys.executable, "-c", WRITER, json.dumps(storage.address)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, env=place.environment(), cwd=ROOT) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"written\n"
            time.sleep(random.uniform(0, 1))
            writer.kill()
        content = storage.read("big")
        assert len(content) == 20_000_000
        assert content == content[:1] * 20_000_000
        seen.add(content[:1])
    assert seen


def _outcomes(study: Storage) -> dict[str, bytes]:
    found = {name: study.read_all([f"trials/{name}/outcome.json"])[0] for name in study.names(paths.TRIALS)}
    return {name: content for name, content in found.items() if content is not None}


def robustsearch(place: Place, *words: object) -> list[str]:
    return [str(Path(sys.executable).parent / "robustsearch"), *map(str, words), "--storage", place.root]


def run(place: Place, *words: object) -> subprocess.CompletedProcess[str]:
    command = robustsearch(place, *words)
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=place.environment(), check=False)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that end with the test."""
    made: list[subprocess.Popen[bytes]] = []
    yield made
    for process in made:
        process.kill()
        process.wait(30)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("place", "cluster"),
    [("seaweedfs", "local"), ("google", "inline"), ("azurite", "inline")],
    indirect=["place"],
)
def test_a_study_that_is_killed_resumes_without_a_trial_lost(
    place: Place, cluster: str, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.replace("trials: 4", "trials: 8"))
    fields: dict[str, Any] = {"kind": cluster, "storage_options": place.options.plain()}
    (tmp_path / "cluster.yaml").write_text(yaml.dump_yaml({**fields, **({"cpus": 2} if cluster == "local" else {})}))
    launch = ("launch", tmp_path / "tiny.yaml", "--cluster", tmp_path / "cluster.yaml")
    study = place.storage("tiny")
    with open(tmp_path / "launch.log", "w") as log:
        first = subprocess.Popen(robustsearch(place, *launch), stdout=log, stderr=log, env=place.environment())
    started.append(first)

    def ended(count: int) -> bool:
        assert first.poll() is None, (tmp_path / "launch.log").read_text()[-3000:]
        return len(_outcomes(study)) >= count

    poll(lambda: ended(1), "the first outcome", 400)
    if cluster == "local":
        _kill_a_worker(first.pid)
        poll(lambda: ended(3), "outcomes after a worker was killed", 400)
    first.kill()
    first.wait(30)
    before = _outcomes(study)
    assert len(before) < 8, "the study had ended before it was killed"
    again = run(place, *launch)
    assert again.returncode in (0, 3), again.stderr[-3000:]
    assert f"took over the study from process {first.pid}" in again.stderr
    after = _outcomes(study)
    assert sorted(after) == [f"{number:05d}" for number in range(8)]
    assert {name: after[name] for name in before} == before
    assert all(json.loads(content)["state"] == "complete" for content in after.values())
    table = tmp_path / "trials.csv"
    assert run(place, "export", "tiny", "--format", "csv", "--what", "trials", "--output", table).returncode == 0
    assert len(table.read_text().splitlines()) == 9
    doctor = run(place, "doctor", "tiny")
    assert doctor.returncode == 0, doctor.stdout


def _kill_a_worker(driver: int) -> None:
    def killed() -> bool:
        for process in psutil.Process(driver).children(recursive=True):
            with suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if title.startswith("ray::") and "tiny-0" in title:
                    process.kill()
                    return True
        return False

    poll(killed, "a worker at work", 200)
