from __future__ import annotations

import pytest
from curves import Curves
from rivals import ROUNDS, Optuna
from simulator import Ledger, simulate

from search.objectives import pareto
from tests.benchmarks import made


class Listening(Optuna):
    """Optuna, recording what it suggested and observed."""

    def __init__(self, curves: Curves, ledger: Ledger, sampler: str) -> None:
        super().__init__(curves, ledger, sampler, seed=0)
        self.suggested: list[dict[str, object]] = []
        self.observed: list[list[float]] = []

    def suggest(self) -> tuple[object, dict[str, object]]:
        token, params = super().suggest()
        self.suggested.append(params)
        return token, params

    def tell(self, token: object, values: list[float]) -> None:
        super().tell(token, values)
        self.observed.append(values)


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_every_trial_trains_its_whole_chain(sampler: str) -> None:
    curves, ledger = made.curves(), Ledger()
    rival = Listening(curves, ledger, sampler)
    simulate(rival, ledger, workers=3, epochs=10**6, goal=2.0, trials=15)
    rounds = [int(str(params[ROUNDS])) for params in rival.suggested]
    assert ledger.epochs == sum(made.DENSE_EPOCHS + made.ROUND_EPOCHS * number for number in rounds)
    ends = [curves.chain(p)[n][-1].values for p, n in zip(rival.suggested, rounds, strict=True)]
    assert sorted(rival.observed) == sorted(ends)
    assert ledger.last_points[-1].hypervolume == pytest.approx(pareto.hypervolume(ends))
    trained = zip(rival.suggested, rounds, strict=True)
    on_the_way = [curves.chain(p)[k][-1].values for p, n in trained for k in range(1, n + 1)]
    assert ledger.all_points[-1].hypervolume == pytest.approx(pareto.hypervolume(on_the_way))
