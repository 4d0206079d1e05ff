"""Measure what the gauges of a search cost: `quickstart` on Ray with them and without, in pairs.

One trial at a time, so that both launches of a pair train the same; which is first alternates. CPU time is that of the
launch and all processes of Ray that it starts, looked at twice a second. Rows are appended to a file, and a run that
is started again goes on with the next pair.

    python -m benchmarks.monitoring rows.jsonl [--pairs 4] [--trials 10]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.5


def launch(folder: str, trials: int, gauges: bool) -> None:
    """Launch `quickstart` in this process, and print how many epochs it trained and what its gauges took."""
    from search.cluster.local import Local

    cluster = Local(cpus=1)
    cluster.authenticate()  # Ray reads it when it is imported.
    from search.launch import api, tune
    from search.results.progress import Snapshot, epochs_of

    seconds: list[float] = []

    class Timed(tune.Gauges):
        def set(self, snapshot: Snapshot) -> None:
            began = time.perf_counter()
            super().set(snapshot)
            seconds.append(time.perf_counter() - began)

    class Silent:
        def set(self, snapshot: Snapshot) -> None:
            pass

    tune.Gauges = Timed if gauges else Silent  # type: ignore[misc, assignment]
    study = api.launch("quickstart", cluster=cluster, trials=trials, storage=folder)
    outcomes = [outcome for _, outcome in study.records.trials() if outcome]
    assert [outcome.state for outcome in outcomes] == ["complete"] * trials, study.ending
    epochs = sum(trained for trained, _ in map(epochs_of, outcomes))
    print(json.dumps({"epochs": epochs, "calls": len(seconds), "set_seconds": sum(seconds)}))


def measured(trials: int, gauges: bool) -> dict[str, Any]:
    """Launch in a process of its own; return wall and CPU seconds, and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "benchmarks.monitoring", "--in", folder, "--trials", str(trials)]
        began = time.monotonic()
        process = subprocess.Popen([*words, *(["--gauges"] if gauges else [])], stdout=subprocess.PIPE, text=True)
        used: dict[tuple[int, float], float] = {}
        while process.poll() is None:
            _sample(process.pid, used)
            time.sleep(SAMPLE_SECONDS)
        wall = time.monotonic() - began
        assert process.stdout is not None
        assert process.returncode == 0
        said = json.loads(process.stdout.read().splitlines()[-1])
    return {"gauges": gauges, "trials": trials, "wall": wall, "cpu": sum(used.values()), **said}


def _sample(pid: int, used: dict[tuple[int, float], float]) -> None:
    """Note the CPU seconds that each process of a launch has used."""
    with suppress(psutil.Error):
        launched = psutil.Process(pid)
        for process in [launched, *launched.children(recursive=True)]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid, process.create_time()] = times.user + times.system


def summary(rows: list[dict[str, Any]]) -> str:
    """Return the means and the mean difference of the pairs, with its 95 % interval by Student's t."""
    from scipy import stats

    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    if len(pairs) < 2:
        return "one pair: no interval"
    lines = []
    for name in ("wall", "cpu"):
        values = [{row["gauges"]: row[name] / row["trials"] for row in pair} for pair in pairs]
        differences = [value[True] - value[False] for value in values]
        half = stats.t.ppf(0.975, len(pairs) - 1) * statistics.stdev(differences) / math.sqrt(len(pairs))
        means = [statistics.mean(value[gauges] for value in values) for gauges in (True, False)]
        lines.append(
            f"{name}: {means[0]:.2f} s a trial with gauges, {means[1]:.2f} without; difference "
            f"{statistics.mean(differences):+.2f} [{statistics.mean(differences) - half:+.2f}, "
            f"{statistics.mean(differences) + half:+.2f}] s (n = {len(pairs)} pairs)"
        )
    calls, seconds = (sum(row[name] for row in rows) for name in ("calls", "set_seconds"))
    share = seconds / sum(row["wall"] for row in rows if row["gauges"])
    lines.append(
        f"in the driver: {1000 * seconds / calls:.2f} ms a call, {calls} calls, {100 * share:.3f} % of the time"
    )
    return "\n".join(lines)


def main() -> None:
    """Run the pairs that are missing, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="?")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--in", dest="folder", help=argparse.SUPPRESS)
    parser.add_argument("--gauges", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        launch(options.folder, options.trials, options.gauges)
        return
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()] if options.rows.exists() else []
    rows = rows[: len(rows) // 2 * 2]
    while len(rows) < 2 * options.pairs:
        first = len(rows) % 4 == 0
        rows += [measured(options.trials, gauges) for gauges in (first, not first)]
        options.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"pair {len(rows) // 2}", file=sys.stderr)
    print(summary(rows))


if __name__ == "__main__":
    main()
