"""Tell how hard a table is: what random trials find on it, and what its images can tell apart.

Prints the share of single chains, each with its whole ladder, that have 90 % of the best known hypervolume by
themselves; how many random trials (a random chain to a random level, every network on the way counted) reach 90, 95 and
98 %; the noise, the standard deviation of the best chain's hypervolume over samples of images; and what share of the
best hypervolume is left if a parameter has but one of its choices. An incomplete table is a random sample of its dense
trainings, so that shares hold, but its best hypervolume is too low, and it looks easier than it is.

    python benchmarks/hardness.py [digits digits-wide ...]
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path

# A script's folder comes first on the path; put last, its search.py does not hide the package of that name.
sys.path.sort(key=str(Path(__file__).parent).__eq__)

import numpy as np
import standings
from curves import Curves, Epoch
from simulator import Front

from search.objectives import pareto

TABLES = Path(__file__).parent / "tables"
SHARES = (0.9, 0.95, 0.98)
RUNS = 200
MOST = 3000
"""Trials after which a random search is given up."""

Ladder = list[Epoch]


def volume(ladder: Ladder) -> float:
    """Return the hypervolume of a chain by itself."""
    return pareto.hypervolume([epoch.values for epoch in ladder if epoch.status != "invalid"])


def trials_until(ladders: list[Ladder], ideal: float, rng: np.random.Generator) -> list[float]:
    """Return after how many random trials each share of the best hypervolume was reached."""
    front, reached = Front(), [math.inf] * len(SHARES)
    for trial in range(1, MOST + 1):
        ladder = ladders[rng.integers(len(ladders))]
        for epoch in ladder[: rng.integers(len(ladder)) + 1]:
            if epoch.status != "invalid":
                front.add(epoch.values)
        for index, share in enumerate(SHARES):
            if front.hypervolume >= share * ideal:
                reached[index] = min(reached[index], trial)
        if math.isfinite(reached[-1]):
            break
    return reached


def left_by_choice(curves: Curves) -> Iterator[tuple[str, list[tuple[object, float]]]]:
    """Yield of each parameter what share of the best hypervolume is left where it has each of its choices."""
    chains = list(curves.chains())
    for path, options in curves.choices.items():
        left = []
        for option in options:
            ends = [epoch.values for params, ladder in chains if params[path] == option for epoch in ladder]
            left.append((option, pareto.hypervolume(ends) / curves.ideal if ends else 0.0))
        yield path, left


def lines(name: str) -> Iterator[str]:
    """Describe a table."""
    curves = Curves.read(TABLES / f"{name}.parquet")
    ladders = [ladder for _, ladder in curves.chains()]
    alone = np.array([volume(ladder) for ladder in ladders]) / curves.ideal
    of = math.prod(map(len, curves.choices.values()))
    yield f"{name}: {len(ladders)} of {of} chains, best known hypervolume {curves.ideal:.4f}, {curves.examples} images"
    quantiles = ", ".join(f"{value:.2f}" for value in np.quantile(alone, (0.1, 0.5, 0.9, 0.99, 1.0)))
    yield f"  a random chain by itself has, at the quantiles 0.1, 0.5, 0.9, 0.99 and 1: {quantiles} of it"
    count = int((alone >= 0.9).sum())
    yield f"  chains with 90 % by themselves: {count}, {count / len(alone):.2%}"
    runs = np.array([trials_until(ladders, curves.ideal, np.random.default_rng(seed)) for seed in range(RUNS)])
    for index, share in enumerate(SHARES):
        low, high = np.quantile(runs[:, index], (0.1, 0.9), method="nearest")
        middle = standings.median(runs[:, index])
        yield f"  random trials to {share:.0%}: median {middle:.0f}, 80 % of {RUNS} searches {low:.0f}..{high:.0f}"
    best = ladders[int(alone.argmax())]
    robust = np.array([epoch.robust for epoch in best])
    # The same images measure all levels, so that their errors go together: at most the whole is off by one error.
    error = float(np.sqrt(robust * (1 - robust) / curves.examples).mean() / robust.mean())
    yield f"  standard deviation of a hypervolume over images: up to {error:.1%}"
    for path, left in left_by_choice(curves):
        yield f"  {path}: " + ", ".join(f"{option} {share:.2f}" for option, share in left)


def main() -> None:
    """Describe the tables that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=sorted(path.stem for path in TABLES.glob("*.parquet")))
    for name in parser.parse_args().names:
        print("\n".join(lines(name)))


if __name__ == "__main__":
    main()
