"""Every method whose package is here searches the small table."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from methods import METHODS
from simulator import MOST_TRIALS, Ledger, simulate

from search.store.records import Records
from tests.benchmarks import made
from trainables.store.storage import Storage

IMPORTED = {"robustsearch": "search", "syne-tune": "syne_tune", "ax-platform": "ax"}
BY_GP = [name for name in METHODS if "gp" in name]


@pytest.mark.filterwarnings("ignore")  # Other packages use what is deprecated.
@pytest.mark.timeout(600)  # BoTorch compiles when it is first used, where it is installed.
@pytest.mark.parametrize("name", [name for name in METHODS if name not in BY_GP and not name.startswith("tune")])
def test_a_method_searches(name: str, tmp_path: Path) -> None:
    entry = METHODS[name]
    if find_spec(IMPORTED.get(entry.package, entry.package)) is None:
        pytest.skip(f"{entry.package} is not installed")
    curves, ledger = made.curves(), Ledger()
    method = entry.build(curves, ledger, 0, Storage(str(tmp_path)).child("study"), 2)
    simulate(method, ledger, workers=2, epochs=10**6, goal=2.0, trials=4)
    assert ledger.trials == 4
    assert ledger.all_points


def test_every_rival_runs_as_it_ships_and_with_our_sharing() -> None:
    """Ray Tune's search is Optuna's, and early stopping by epochs has nothing to share."""
    rivals = ("optuna-tpe", "optuna-gp", "optuna-nsga2", "optuna-ladders", "botorch", "botorch-known", "ax")
    assert all(not METHODS[name].shared and METHODS[f"{name}-shared"].shared for name in rivals)
    assert METHODS["moasha-rounds-shared"].shared
    assert all(entry.seeds == 20 for name, entry in METHODS.items() if name != "tune-optuna-gp")


def test_our_study_ends_where_runs_of_all_methods_are_given_up(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path)).child("study")
    METHODS["ours-random"].build(made.curves(), Ledger(), 0, storage, 2)
    assert Records.open(storage).spec.planned == MOST_TRIALS
