"""Lose jobs, machines and drivers of a search on three machines, over and over, and count what was lost with them.

    python -m tests.infra.losses --on slurm --rounds 20 --seed 0 --folder /var/tmp/losses

The machines are namespaces (`tests/infra/machines.py`) on one disk. On `slurm`, a job on n2 and n3 is requeued,
cancelled, preempted with or without a time of grace, or killed in its launch, or one of its machines is lost and booted
again; n1 is the login node. On `address`, Ray runs on all three, and the driver is killed, n2 or n3 is lost, or n1 with
the head and the driver. `slurm-inline` is as `slurm`, but the launch in the job runs its trials in its own process,
without Ray: many more losses in an hour. What has ended is launched again. Started again with the same folder, the loop
resumes.

At the end it prints what `benchmarks.kill_loop` prints, with losses by kind as `kills`.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil

from benchmarks.kill_loop import CountedSearch
from tests.infra.machines import Command, Machine, Machines, poll
from tests.infra.ray_machines import PROGRAM, RayMachines
from tests.infra.slurm import Slurm
from tests.infra.without_ray import without_ray_programs

SECONDS = 900
"""How long a loaded machine may take to start Ray and train an epoch."""


class Losses(CountedSearch, ABC):
    """A search on three machines, which loses something each round."""

    kinds: tuple[str, ...]

    def __init__(self, folder: Path, seed: int, trials: int) -> None:
        super().__init__(folder, seed, trials, epochs=3)
        (folder / "launch.log").touch()
        self.machines = Machines(3, visible=[folder])

    @abstractmethod
    def launch(self) -> None:
        """Launch the study unless it runs."""

    @abstractmethod
    def over(self) -> bool:
        """Return whether the launch has ended."""

    @abstractmethod
    def lose(self, kind: str) -> bool:
        """Lose what `kind` says; return whether it was there."""

    def close(self) -> None:
        """End all machines at once, which loses nothing either."""
        self.machines.close()
        self.compare()

    def run(self, rounds: int, seconds: float, say: Callable[[str], None]) -> None:
        """Lose things until there were so many rounds, or seconds have passed; after all rounds let the study end."""
        until = time.monotonic() + seconds
        kinds = random.Random(self.tally.seed).choices(self.kinds, k=rounds)
        while self.tally.rounds < rounds and time.monotonic() < until:
            if not self.round(kinds[self.tally.rounds], say):
                self.compare()
                self.extend(20 if self.tally.trials >= self.trials else 0)
        if self.tally.rounds == rounds:
            self.finish()

    def round(self, kind: str, say: Callable[[str], None]) -> bool:
        """Run for a random time, lose something, and compare; return False where the study ended before that."""
        self.launch()
        busy = self._random.random() < 0.75
        wait = self._random.uniform(0.0, 10.0 if busy else 30.0)
        if busy and not self.wait_for_work(self.over, SECONDS):
            return False
        time.sleep(wait)
        if self.over():
            return False
        hit = self.lose(kind)
        if hit:
            self.tally.kills[kind] = self.tally.kills.get(kind, 0) + 1
        self.tally.rounds += 1
        self.compare()
        when = f"{wait:.1f} s after {'an epoch' if busy else 'the last'}"
        say(f"round {self.tally.rounds}: {kind} {'lost' if hit else 'not there'} {when}; {self.tally.trials} ended")
        return True

    def finish(self) -> None:
        """Let the study run to its end, and compare again."""
        self.launch()
        poll(self.over, "the end of the study", 4 * SECONDS)
        self.compare()


class OnSlurm(Losses):
    kinds = ("requeue", "cancel", "preempt", "machine", "driver")

    def __init__(self, folder: Path, seed: int, trials: int) -> None:
        super().__init__(folder, seed, trials)
        self._slurm = Slurm(self.machines)
        fields = {
            "kind": "slurm",
            "nodes": 2,
            "cpus_per_node": 1,
            "cpus_per_trial": 1,
            "requeues": 1000,
            "extra": ["--exclude=n1"],
            "setup": [f"export PYTHONPATH={Path(__file__).parents[2]}", f"export PATH={self._programs()}:$PATH"],
            "storage": str(folder / "runs"),
            "allow_local_storage": True,
        }
        (folder / "slurm.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items()))

    def _programs(self) -> Path:
        """Return the folder of the programs that the job starts."""
        return PROGRAM.parent

    def _jobs(self) -> list[str]:
        return self._slurm.head.run(["squeue", "--noheader", "--format=%A"]).stdout.split()

    def over(self) -> bool:
        return not self._jobs()

    def launch(self) -> None:
        if self.over():
            words: list[str | Path] = [PROGRAM, "launch", "killed.yaml", "--cluster", "slurm.yaml", "--detach"]
            done = self._slurm.head.run(words, cwd=self.folder, timeout=SECONDS, env={"NO_COLOR": "1"})
            with open(self.folder / "launch.log", "a") as log:
                log.write(done.stdout + done.stderr)

    def lose(self, kind: str) -> bool:
        job = self._jobs()[0]
        if kind == "machine":
            self._lose_machine(self._random.choice(["n2", "n3"]))
        elif kind == "driver":
            return self._kill_driver(job)
        elif self._slurm.job(job)["JobState"] != "RUNNING":
            return False
        elif kind == "preempt":
            self._slurm.preempt("n2,n3", grace=self._random.choice([0, 30]))
        else:
            self._slurm.head.run(f"scontrol requeue {job}" if kind == "requeue" else f"scancel {job}")
            poll(lambda: kind == "requeue" or self.over(), "the end of the job", SECONDS)
        return True

    def _lose_machine(self, name: str) -> None:
        self.machines[name].kill()
        # A node that is back sooner counts as never lost: Slurm tells by the time since its boot, which is the same on
        # all machines here.
        poll(lambda: self._slurm.states()[name].startswith("down"), f"the loss of {name}", SECONDS)
        self._slurm.restart(self.machines[name])

    def _kill_driver(self, job: str) -> bool:
        """Kill the launch in the job, which then ends with its code; return whether there was one."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if {"launch", "--wait"} <= set(process.cmdline()) and process.environ().get("SLURM_JOB_ID") == job:
                    found.append(process)
        for process in found:
            process.kill()
        poll(lambda: not found or self.over(), "the end of the job", SECONDS)
        return bool(found)


class OnSlurmInline(OnSlurm):
    def __init__(self, folder: Path, seed: int, trials: int) -> None:
        super().__init__(folder, seed, trials)
        plugin = folder / "counted_epochs.py"
        plugin.write_text(plugin.read_text().replace('if "torch" in sys.modules:', "if True:"))  # Driver and worker.

    def _programs(self) -> Path:
        return without_ray_programs(self.folder / "programs")


class OnAddress(Losses):
    kinds = ("driver", "machine", "head")

    def __init__(self, folder: Path, seed: int, trials: int) -> None:
        super().__init__(folder, seed, trials)
        self._ray = RayMachines(self.machines, folder)
        self._command: Command | None = None

    def over(self) -> bool:
        return self._command is None or self._command.poll() is not None

    def launch(self) -> None:
        if self.over():
            with open(self.folder / "launch.log", "ab") as log:
                words = ["--wait", "120"]
                study = self.folder / "killed.yaml"
                self._command = self._ray.launch(
                    self.machines["n1"], study, self.folder / "runs", *words, stdout=log, stderr=log
                )

    def lose(self, kind: str) -> bool:
        assert self._command is not None
        if kind == "driver":
            self._command.send_signal(signal.SIGKILL)
            self._command.wait(60)
        elif kind == "machine":
            lost = self.machines[self._random.choice(["n2", "n3"])]
            lost.kill()
            self.machines.boot(lost)
            self._ray.join(lost)
        else:
            self._lose_head(self.machines["n1"])
        return True

    def _lose_head(self, head: Machine) -> None:
        head.kill()
        self._ray.stop()
        self.machines.boot(head)
        self._ray.start()


SEARCHES: dict[str, type[Losses]] = {"slurm": OnSlurm, "slurm-inline": OnSlurmInline, "address": OnAddress}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--on", choices=SEARCHES, required=True)
    parser.add_argument("--rounds", type=int, default=20, help="in all, with those of earlier runs")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after the first round that ends later"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    search = SEARCHES[options.on](options.folder.absolute(), options.seed, options.trials)
    try:
        search.run(options.rounds, options.seconds, lambda line: print(line, file=sys.stderr, flush=True))
    finally:
        search.close()
    print(json.dumps(asdict(search.tally), indent=1))


if __name__ == "__main__":
    main()
