"""Kill a search at random times, over and over, and count what was lost.

    python -m benchmarks.kill_loop --kills 40 --seed 0 --folder /tmp/kill-loop

A cluster of three Ray nodes on this machine runs a small study of real trainings. At random times, a SIGKILL hits
the driver, a worker, or the raylet of a node other than the head (then another node joins); a killed driver is launched
again. After every kill, the records are compared with those before it. A plug-in of the study logs every completed
epoch, so that repeated epochs are noticed. Started again with the same folder, the loop resumes.

At the end it prints kills by kind, trials lost (a recorded outcome that is missing or changed), trials repeated (run
again after their outcome was recorded), parameters changed (of an issued trial), and epochs trained and repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.nodes import Nodes, cluster_file

STUDY = """
name: killed
data: digits
model: {kind: lenet300, hidden: [16]}
recipe:
  kind: imp
  rate: 0.5
  epochs: %(epochs)d
  rewind: init
  train: {batch: 256, eps: 0.1, optimiser: adam, attack: {kind: pgd, steps: 1}, precision: fp32}
space:
  recipe.sparsity: {kind: float, low: 0.0, high: 0.9}
  recipe.train.eps: {kind: float, low: 0.05, high: 0.1}
protocol: {eps: 0.1, examples: 50, attack: {kind: pgd, steps: 2}}
sampler: random
max_failures: 1000
budget: {trials: %(trials)d}
plugins: [counted_epochs]
"""

PLUGIN = """
import sys
import time

if "torch" in sys.modules:  # In a worker; the driver has no use for it.
    from trainables.worker import run

    def note(line):
        with open(%(log)r, "a") as file:
            file.write(line + chr(10))

    counted = False  # The small trial before the first one is none.

    def train(*arguments, real=run.train, **named):
        for epoch in real(*arguments, **named):
            if counted:
                note(f"epoch {named['key']} {epoch.epoch}")
                time.sleep(%(pause)r)
            yield epoch

    def progress(self, real=run.Run.progress):
        global counted
        if counted := self.study != "rehearsal":
            note(f"run {self.number} {time.time()}")
        yield from real(self)

    run.train, run.Run.progress = train, progress
"""


@dataclass
class Tally:
    """What has happened so far."""

    seed: int
    kills: dict[str, int] = field(default_factory=dict)
    trials_lost: int = 0
    trials_repeated: int = 0
    parameters_changed: int = 0
    epochs_trained: int = 0
    epochs_repeated: int = 0
    trials: int = 0
    rounds: int = 0


class CountedSearch:
    """A study that counts its epochs, and what was lost or done twice since its records were last looked at."""

    def __init__(self, folder: Path, seed: int, trials: int, epochs: int = 12, pause: float = 0.05) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.study = folder / "runs" / "killed"
        self._log = folder / "epochs.log"
        self._saved = folder / "tally.json"
        known = json.loads(self._saved.read_text()) if self._saved.exists() else {"seed": seed}
        self.tally = Tally(**known)
        self._random = random.Random(f"{self.tally.seed} {self.tally.rounds}")
        self._epochs = epochs
        self.trials = 0
        self.extend(trials)
        (folder / "counted_epochs.py").write_text(PLUGIN % {"log": str(self._log), "pause": pause})
        self._ended: dict[str, bytes] = self._outcomes()
        self._issued: dict[str, object] = self._params()

    def extend(self, more: int) -> None:
        """Make the study longer; the next launch takes it up."""
        self.trials += more
        (self.folder / "killed.yaml").write_text(STUDY % {"trials": self.trials, "epochs": self._epochs})

    def _outcomes(self) -> dict[str, bytes]:
        return {path.parent.name: path.read_bytes() for path in self.study.glob("trials/*/outcome.json")}

    def _params(self) -> dict[str, object]:
        return {p.parent.name: json.loads(p.read_bytes())["params"] for p in self.study.glob("trials/*/trial.json")}

    def _lines(self) -> list[list[str]]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [line.split() for line in lines]

    def said(self) -> str:
        """Return what the launches wrote."""
        return (self.folder / "launch.log").read_text()

    def wait_for_work(self, over: Callable[[], bool], seconds: float = 120) -> bool:
        """Wait until another epoch is completed; return False where the study is over before that."""
        before, until = len(self._lines()), time.monotonic() + seconds
        while len(self._lines()) == before:
            if over():
                return False
            assert time.monotonic() < until, self.said()[-3000:]
            time.sleep(0.05)
        return True

    def compare(self) -> None:
        """Compare the records with the last ones seen, and count what was lost, changed or done twice."""
        outcomes, params = self._outcomes(), self._params()
        lost = [name for name, content in self._ended.items() if outcomes.get(name) != content]
        changed = [name for name, values in self._issued.items() if params.get(name) != values]
        assert sorted(params) == [f"{n:05d}" for n in range(len(params))], "numbers are dense"
        assert outcomes.keys() <= params.keys()
        self.tally.trials_lost += len(lost)
        self.tally.parameters_changed += len(changed)
        self._ended, self._issued = outcomes, params
        epochs = Counter(tuple(line[1:]) for line in self._lines() if line[0] == "epoch")
        self.tally.epochs_trained = epochs.total()
        self.tally.epochs_repeated = epochs.total() - len(epochs)
        ended = {int(path.parent.name): path.stat().st_mtime for path in self.study.glob("trials/*/outcome.json")}
        runs = [(int(line[1]), float(line[2])) for line in self._lines() if line[0] == "run"]
        self.tally.trials_repeated = sum(number in ended and began > ended[number] for number, began in runs)
        self.tally.trials = len(outcomes)
        self._saved.write_text(json.dumps(asdict(self.tally), indent=1))


class Loop(CountedSearch):
    """The study, the cluster, and the launch that is killed again and again."""

    def __init__(self, folder: Path, seed: int, trials: int, epochs: int = 12, pause: float = 0.05) -> None:
        super().__init__(folder, seed, trials, epochs, pause)
        self._short = tempfile.TemporaryDirectory(prefix="rs")
        self.nodes = Nodes(Path(self._short.name))
        self._cluster = cluster_file(folder, self.nodes)
        self._launch: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End what runs."""
        if self._launch is not None and self._launch.poll() is None:
            self._launch.kill()
            self._launch.wait()
        self.nodes.close()
        self._short.cleanup()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the launch unless it runs."""
        if self._launch is None or self._launch.poll() is not None:
            script = Path(sys.executable).parent / "robustsearch"
            with open(self.folder / "launch.log", "ab") as log:
                self._launch = subprocess.Popen(
                    [script, "launch", "killed.yaml", "--cluster", self._cluster],
                    cwd=self.folder,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "NO_COLOR": "1"},
                )
        return self._launch

    def round(self, kind: str, say: Callable[[str], None]) -> bool:
        """Run for a random time, kill one process, and compare; return False where the study ended before that."""
        launch = self.launch()
        busy = self._random.random() < 0.75
        wait = self._random.uniform(0.0, 3.0)
        if busy and not self.wait_for_work(lambda: launch.poll() is not None):
            return False
        time.sleep(wait)
        if launch.poll() is not None:
            return False
        hit = {"driver": self._kill_driver, "worker": self._kill_worker, "raylet": self._kill_raylet}[kind]()
        if hit:
            self.tally.kills[kind] = self.tally.kills.get(kind, 0) + 1
        self.tally.rounds += 1
        self.compare()
        when = f"{wait:.2f} s {'into the work' if busy else 'after the last'}"
        done = f"{kind} {'killed' if hit else 'not there'}"
        say(f"round {self.tally.rounds}: {done} {when}; {len(self._ended)} trials ended")
        return True

    def _kill_driver(self) -> bool:
        launch = self.launch()
        launch.send_signal(signal.SIGKILL)
        launch.wait()
        return True

    def _kill_worker(self) -> bool:
        workers = self.nodes.workers("killed")
        if workers:
            self._random.choice(workers).kill()
        return bool(workers)

    def _kill_raylet(self) -> bool:
        others = self.nodes.raylets()[1:]
        if others:
            self._random.choice(others).kill()
        self.nodes.add()
        return bool(others)

    def finish(self, seconds: float) -> int:
        """Let the study run to its end, compare again, and return the launch's exit code."""
        code = self.launch().wait(seconds)
        self.compare()
        return code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    loop = Loop(options.folder, options.seed, options.trials)
    try:
        kinds = random.Random(loop.tally.seed).choices(("driver", "worker", "raylet"), k=10 * options.kills)
        while sum(loop.tally.kills.values()) < options.kills and loop.round(kinds[loop.tally.rounds], say):
            pass
        code = loop.finish(1800)
    finally:
        loop.close()
    print(json.dumps({**asdict(loop.tally), "exit_code": code}, indent=1))


if __name__ == "__main__":
    main()
