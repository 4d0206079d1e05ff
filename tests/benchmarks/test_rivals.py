from __future__ import annotations

import optuna
import pytest
from curves import Curves
from rivals.base import ROUNDS, Trainings, decoded, distributions
from rivals.optuna import Ladders, Optuna
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

    def tell(self, token: object, values: list[list[float]]) -> None:
        super().tell(token, values)
        self.observed.append(values[-1])


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_every_trial_trains_its_whole_chain(sampler: str) -> None:
    curves, ledger = made.curves(), Ledger()
    rival = Listening(curves, ledger, sampler)
    simulate(rival, ledger, workers=3, epochs=10**6, goal=2.0, trials=15)
    rounds = [int(str(params[ROUNDS])) for params in rival.suggested]
    assert ledger.epochs == sum(made.DENSE_EPOCHS + made.ROUND_EPOCHS * number for number in rounds)
    chains = [curves.chain(decoded(curves, params)) for params in rival.suggested]
    ends = [chain[number][-1].values for chain, number in zip(chains, rounds, strict=True)]
    assert sorted(rival.observed) == sorted(ends)
    assert ledger.last_points[-1].hypervolume == pytest.approx(pareto.hypervolume(ends))
    on_the_way = [chain[k][-1].values for chain, n in zip(chains, rounds, strict=True) for k in range(1, n + 1)]
    assert ledger.all_points[-1].hypervolume == pytest.approx(pareto.hypervolume(on_the_way))


def test_numbers_are_told_as_ordered_and_other_choices_are_not() -> None:
    curves = made.curves()
    space = distributions(curves)
    kinds = {path: type(one).__name__ for path, one in space.items()}
    assert kinds == {
        ROUNDS: "IntDistribution",
        made.EPS: "IntDistribution",
        made.LOSS: "CategoricalDistribution",
        made.L1: "IntDistribution",
        made.REWIND: "CategoricalDistribution",
    }
    chosen = {ROUNDS: 2, made.EPS: 1, made.LOSS: "mix", made.L1: 0, made.REWIND: "none"}
    assert decoded(curves, chosen) == {**chosen, made.EPS: 0.1, made.L1: 0.0}


def test_what_is_shared_is_trained_once_and_its_rounds_are_told() -> None:
    curves, ledger = made.curves(), Ledger()
    rival = Optuna(curves, ledger, "random", seed=0, shared=True)
    simulate(rival, ledger, workers=1, epochs=10**6, goal=2.0, trials=30)
    told = [trial for trial in rival._study.trials if trial.state.is_finished()]
    dense, rounds = set(), set()
    for trial in told:
        params = decoded(curves, trial.params)
        dense.add((params[made.EPS], params[made.LOSS], params[made.L1]))
        rounds.add(tuple(map(str, params.values())))
    assert ledger.epochs == made.DENSE_EPOCHS * len(dense) + made.ROUND_EPOCHS * len(rounds)
    assert len(told) > 30
    for trial in told:
        params = decoded(curves, trial.params)
        assert trial.values == curves.chain(params)[params[ROUNDS]][-1].values


def test_what_is_missing_of_a_chain_is_what_no_trial_has_trained() -> None:
    curves = made.curves()
    params = {made.EPS: 0.1, made.LOSS: "mix", made.L1: 0.0, made.REWIND: 2}
    for shared in (False, True):
        ledger = Ledger()
        trainings = Trainings(curves, ledger, shared=shared)
        assert list(trainings.train(params, 0)) == [made.DENSE_EPOCHS]
        ledger.time = made.DENSE_EPOCHS
        assert list(trainings.train(params, 1)) == [made.ROUND_EPOCHS]
        ledger.time += made.ROUND_EPOCHS
        other = {**params, made.REWIND: "none"}
        assert trainings.missing(other, 0) == (0 if shared else made.DENSE_EPOCHS), "rewinding comes after it"
        assert trainings.missing(params, 1) == (0 if shared else made.ROUND_EPOCHS)
        assert trainings.missing(other, 1) == trainings.missing(params, 2) == made.ROUND_EPOCHS
        assert trainings.missing({**params, made.EPS: 0.0}, 0) == made.DENSE_EPOCHS
        assert list(trainings.train(params, 1)) == ([] if shared else [made.ROUND_EPOCHS])


def test_what_is_shared_and_under_way_is_waited_for() -> None:
    curves, ledger = made.curves(), Ledger()
    rival = Optuna(curves, ledger, "random", seed=0, shared=True)
    chosen = {ROUNDS: 1, made.EPS: 1, made.LOSS: "mix", made.L1: 0, made.REWIND: "none"}
    works = [rival.work(rival._study.ask(), chosen) for _ in range(2)]
    rival.suggest = lambda: None  # type: ignore[method-assign]
    rival.next = lambda: works.pop() if works else None  # type: ignore[method-assign]
    simulate(rival, ledger, workers=2, epochs=10**6, goal=2.0)
    assert ledger.epochs == ledger.time == made.DENSE_EPOCHS + made.ROUND_EPOCHS


@pytest.mark.parametrize("shared", [False, True])
def test_a_ladder_is_told_as_one_number(shared: bool) -> None:
    curves, ledger = made.curves(), Ledger()
    rival = Ladders(curves, ledger, "random", seed=0, shared=shared)
    simulate(rival, ledger, workers=2, epochs=10**6, goal=2.0, trials=5)
    for trial in rival._study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        chain = curves.chain(decoded(curves, trial.params))
        assert trial.value == pytest.approx(pareto.hypervolume([chain[n][-1].values for n in range(1, made.TOP + 1)]))
