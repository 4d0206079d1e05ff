from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from simulator import Front, Ledger, Wait, Work, simulate

from search.objectives import pareto

TRIALS = st.lists(st.lists(st.integers(0, 4), max_size=4), max_size=8)


class Scripted:
    """Trials whose trainings are written down; each end of a training measures a point of growing worth."""

    def __init__(self, trials: list[list[int]], ledger: Ledger) -> None:
        self.left = deque(trials)
        self.ledger = ledger
        self.reported: list[tuple[int, int]] = []

    def next(self) -> Work | None:
        return self.work(self.left.popleft()) if self.left else None

    def work(self, spans: list[int]) -> Work:
        for epochs in spans:
            yield epochs
            self.reported.append((self.ledger.time, self.ledger.epochs))


class Given:
    """Trials that are given, and measure nothing."""

    def __init__(self, works: list[Work]) -> None:
        self.left = works

    def next(self) -> Work | None:
        return self.left.pop(0) if self.left else None


def iter_of(*steps: int | Wait) -> Work:
    yield from steps


def ticked(trials: list[list[int]], workers: int) -> list[tuple[int, int]]:
    """Count by single epochs when each training ends, and after how many epochs of all workers."""
    left = deque(deque(spans) for spans in trials)
    busy: list[deque[int]] = []
    time = epochs = 0
    reported = []

    def settle() -> None:
        """Let every trial go on until it trains, and fill free workers."""
        while True:
            for trial in list(busy):
                while trial and trial[0] == 0:
                    trial.popleft()
                    reported.append((time, epochs))
                if not trial:
                    busy.remove(trial)
            if len(busy) == workers or not left:
                return
            busy.append(left.popleft())

    settle()
    while busy:
        time += 1
        epochs += len(busy)
        for trial in busy:
            trial[0] -= 1
        settle()
    return reported


@given(TRIALS, st.integers(1, 4))
def test_epochs_are_counted_as_they_are_trained(trials: list[list[int]], workers: int) -> None:
    ledger = Ledger()
    method = Scripted(trials, ledger)
    simulate(method, ledger, workers=workers, epochs=10**6, goal=1.0)
    assert sorted(method.reported) == sorted(ticked(trials, workers))
    assert ledger.epochs == sum(map(sum, trials))
    assert ledger.trials == len(trials)


def test_what_takes_more_than_the_budget_is_not_measured() -> None:
    ledger = Ledger()
    method = Scripted([[5, 5]] * 9, ledger)
    simulate(method, ledger, workers=2, epochs=12, goal=1.0)
    assert (ledger.epochs, ledger.time) == (12, 6)
    assert method.reported == [(5, 10), (5, 10)]
    ledger = Ledger()
    method = Scripted([[5, 5]] * 9, ledger)
    simulate(method, ledger, workers=2, epochs=20, goal=1.0)
    assert method.reported == [(5, 10), (5, 10), (10, 20), (10, 20)]
    ledger = Ledger()
    simulate(Scripted([[5]] * 9, ledger), ledger, workers=2, epochs=10**6, goal=1.0, trials=3)
    assert (ledger.epochs, ledger.trials) == (15, 3)


def test_a_worker_that_waits_takes_time_and_trains_nothing() -> None:
    ledger = Ledger()
    works: list[Work] = [iter_of(3, 2), iter_of(Wait(4), 1)]
    simulate(Given(works), ledger, workers=2, epochs=10**6, goal=1.0)
    assert (ledger.epochs, ledger.time) == (6, 5)


POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda p: [p[0] / 5, p[1] / 5]), max_size=20)


@given(POINTS)
def test_the_front_has_the_hypervolume_of_all_points(points: list[list[float]]) -> None:
    front = Front()
    for index, values in enumerate(points):
        before = front.hypervolume
        assert front.add(values) == (front.hypervolume > before)
        assert abs(front.hypervolume - pareto.hypervolume(points[: index + 1])) < 1e-12
