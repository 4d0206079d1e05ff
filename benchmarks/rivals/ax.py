"""Ax."""

from __future__ import annotations

from typing import Any

from curves import Curves
from optuna.distributions import BaseDistribution, CategoricalDistribution
from simulator import Ledger

from rivals.base import Params, Rival, distributions


class Ax(Rival):
    """Ax's own strategy for two objectives, told that sparsity has no error; `startup` None is its default."""

    def __init__(
        self, curves: Curves, ledger: Ledger, seed: int, *, startup: int | None = None, shared: bool = False
    ) -> None:
        import logging

        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
        from ax.utils.common.logger import set_ax_logger_levels

        set_ax_logger_levels(logging.ERROR)
        super().__init__(curves, ledger, shared=shared)
        self._space = distributions(curves)
        # Names with dots are no names to it.
        self._names = {path: f"p{number}" for number, path in enumerate(self._space)}
        parameters: list[Any] = []
        for path, one in self._space.items():
            name = self._names[path]
            if isinstance(one, CategoricalDistribution):
                texts = [str(choice) for choice in one.choices]
                parameters.append(ChoiceParameterConfig(name, texts, "str", is_ordered=False))
            else:
                parameters.append(RangeParameterConfig(name, (one.low, one.high), "int"))
        self._client = Client(random_seed=seed)
        self._client.configure_experiment(parameters)
        # Bounds on objectives are its reference point.
        self._client.configure_optimization("robust, sparsity", outcome_constraints=["robust >= 0", "sparsity >= 0"])
        self._client.configure_generation_strategy(
            method="fast",
            initialization_budget=startup,
            initialization_random_seed=seed,
            allow_exceeding_initialization_budget=True,  # Or workers would have nothing to do.
        )

    def suggest(self) -> tuple[Any, Params] | None:
        for token, found in self._client.get_next_trials(max_trials=1).items():
            return token, {path: self._value(one, found[self._names[path]]) for path, one in self._space.items()}
        return None

    def tell(self, token: Any, values: list[list[float]]) -> None:
        robust, sparsity = values[-1]
        self._client.complete_trial(token, raw_data={"robust": robust, "sparsity": (sparsity, 0.0)})

    def learn(self, chosen: Params, values: list[float]) -> None:
        texts = {path: isinstance(one, CategoricalDistribution) for path, one in self._space.items()}
        told = {self._names[path]: str(value) if texts[path] else value for path, value in chosen.items()}
        self.tell(self._client.attach_trial(told), [values])

    def _value(self, one: BaseDistribution, value: Any) -> Any:
        if isinstance(one, CategoricalDistribution):
            return next(choice for choice in one.choices if str(choice) == value)
        return int(value)
