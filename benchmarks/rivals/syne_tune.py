"""MOASHA of Syne Tune."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from curves import Curves
from simulator import Ledger, Work

from rivals.base import ROUNDS, Params, Trainings, decoded, ordered


class Moasha:
    """Syne Tune's MOASHA, which draws at random and stops what ranks low.

    `resource` is what its rungs are in. `rounds`: every trial climbs the whole ladder and reports each round, so that
    a rung compares networks of one sparsity. `epochs`: the number of rounds is drawn as well, and every
    epoch reports the sparsity that the trial will end with. Only rounds can be `shared`.
    """

    def __init__(
        self,
        curves: Curves,
        ledger: Ledger,
        seed: int,
        resource: str,
        grace: int,
        factor: float,
        *,
        shared: bool = False,
    ) -> None:
        from syne_tune.config_space import choice, randint
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        # Syne Tune draws from the global generators.
        random.seed(seed)
        np.random.seed(seed)
        self.curves, self.ledger = curves, ledger
        self.trainings = Trainings(curves, ledger, shared=shared)
        space: dict[str, Any] = {
            # Ordered choices by their position, others as text: it wants choices of one type.
            path: randint(0, len(options) - 1) if ordered(options) else choice([str(value) for value in options])
            for path, options in curves.choices.items()
        }
        self._top = len(curves.rungs)
        self._by_rounds = resource == "rounds"
        if not self._by_rounds:
            space[ROUNDS] = randint(1, self._top)
        most = self._top if self._by_rounds else curves.epochs(self._top)
        self._scheduler = MOASHA(
            space,
            metrics=["robust", "sparsity"],
            do_minimize=False,
            time_attr="resource",
            max_t=most,
            grace_period=min(grace, most),
            reduction_factor=factor,
            random_seed=seed,
        )
        self._issued = 0

    def next(self) -> Work | None:
        from syne_tune.backend.trial_status import Trial

        suggestion = self._scheduler.suggest()
        params = {ROUNDS: self._top, **suggestion.config}
        trial = Trial(trial_id=self._issued, config=params, creation_time=None)
        self._issued += 1
        self._scheduler.on_trial_add(trial)
        return self._ladder(trial, params) if self._by_rounds else self._epochs(trial, params)

    def _ladder(self, trial: Any, params: Params) -> Work:
        chosen = self._values(params)
        chain = self.curves.chain(chosen)
        yield from self.trainings.train(chosen, 0)
        for number in range(1, self._top + 1):
            yield from self.trainings.train(chosen, number)
            values = chain[number][-1].values
            stop = self._stops(trial, number, values, number == self._top)
            self.ledger.measured(values, last=stop or number == self._top)
            if stop:
                return

    def _values(self, params: Params) -> Params:
        texts = {path: {str(option): option for option in options} for path, options in self.curves.choices.items()}
        return {
            path: texts[path][value] if isinstance(value, str) else value
            for path, value in decoded(self.curves, params).items()
        }

    def _epochs(self, trial: Any, params: Params) -> Work:
        chain = self.curves.chain(self._values(params))
        target = chain[params[ROUNDS]][-1].sparsity
        trained = 0
        for number in range(params[ROUNDS] + 1):
            for index, epoch in enumerate(chain[number]):
                yield 1
                trained += 1
                last = number == params[ROUNDS] and index == len(chain[number]) - 1
                if number and index == len(chain[number]) - 1:
                    self.ledger.measured(epoch.values, last=last)
                if self._stops(trial, trained, [epoch.robust, target], last):
                    return

    def _stops(self, trial: Any, resource: int, values: list[float], last: bool) -> bool:
        """Report a result, as Syne Tune's tuner does; say whether the trial is to stop."""
        result = {"robust": values[0], "sparsity": values[1], "resource": resource}
        decision = self._scheduler.on_trial_result(trial, result)
        if decision != "CONTINUE":
            self._scheduler.on_trial_remove(trial)
        elif last:
            self._scheduler.on_trial_complete(trial, result)
        return bool(decision != "CONTINUE")
