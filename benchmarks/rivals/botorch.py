"""BoTorch."""

from __future__ import annotations

import math
from typing import Any

import optuna
from curves import Curves
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from simulator import Ledger

from rivals.base import ROUNDS, Params, Rival, decoded, distributions


class BoTorch(Rival):
    """BoTorch's qLogNEHVI on one Gaussian process per objective, with the running trials as pending points.

    With `known`, the sparsity is a deterministic model of the number of rounds, as BoTorch offers for objectives that
    need no measurement. With `weighted`, a gain is divided by the root of the epochs that are to be trained, as ours.
    Positions and numbers are scaled to [0, 1], other choices have a column each; BoTorch's own local search on the grid
    finds the best of all that was not tried.
    """

    RAW, RESTARTS = 512, 10

    def __init__(
        self,
        curves: Curves,
        ledger: Ledger,
        seed: int,
        *,
        known: bool,
        startup: int = 10,
        shared: bool = False,
        weighted: bool = False,
    ) -> None:
        super().__init__(curves, ledger, shared=shared)
        self._known, self._startup, self._seed, self._weighted = known, startup, seed, weighted
        self._space = distributions(curves)
        self._options = {
            path: list(one.choices) if isinstance(one, CategoricalDistribution) else list(range(one.low, one.high + 1))
            for path, one in self._space.items()
        }
        self._random = optuna.create_study(directions=["maximize", "maximize"], sampler=RandomSampler(seed=seed))
        self._told: list[tuple[Params, list[float]]] = []
        self._running: dict[int, Params] = {}
        self._issued = 0

    def suggest(self) -> tuple[Any, Params]:
        chosen = self._chosen() if len(self._told) >= self._startup else self._drawn()
        self._issued += 1
        self._running[self._issued] = chosen
        return self._issued, chosen

    def tell(self, token: Any, values: list[list[float]]) -> None:
        self._told.append((self._running.pop(token), values[-1]))

    def learn(self, chosen: Params, values: list[float]) -> None:
        self._told.append((chosen, values))

    def _drawn(self) -> Params:
        return dict(self._random.ask(self._space).params)

    def _positions(self, trials: list[Params]) -> Any:
        import torch

        rows = [[options.index(params[path]) for path, options in self._options.items()] for params in trials]
        return torch.tensor(rows, dtype=torch.double).reshape(len(rows), len(self._options))

    def _features(self, positions: Any) -> Any:
        """Return what the models see of positions (..., parameters)."""
        import torch

        columns = []
        for at, (path, options) in enumerate(self._options.items()):
            column = positions[..., at]
            if isinstance(self._space[path], CategoricalDistribution):
                columns.append(torch.nn.functional.one_hot(column.long(), len(options)).double())
            else:
                columns.append(column[..., None] / max(1, len(options) - 1))
        return torch.cat(columns, dim=-1)

    def _epochs(self, positions: Any) -> Any:
        """Return the epochs that trials (n, parameters) would have to train."""
        import torch

        found = []
        for row in positions.long().tolist():
            options = zip(self._options.items(), row, strict=True)
            chosen = {path: values[at] for (path, values), at in options}
            params = decoded(self.curves, chosen)
            found.append(sum(self.trainings.missing(params, number) for number in range(params[ROUNDS] + 1)))
        return torch.tensor(found, dtype=torch.double)

    def _chosen(self) -> Params:
        import torch
        from botorch.optim.optimize import optimize_acqf_discrete_local_search

        torch.manual_seed(self._seed * 100_003 + self._issued)
        acquisition = self._acquisition()

        def worth(positions: Any) -> Any:
            """Return the logarithm of the gain of trials (n, 1, parameters)."""
            gain = acquisition(self._features(positions))
            # A measurement costs about as much as an epoch.
            return gain - 0.5 * torch.log1p(self._epochs(positions[:, 0])) if self._weighted else gain

        seen = torch.unique(self._positions([*(p for p, _ in self._told), *self._running.values()]), dim=0)
        left = math.prod(map(len, self._options.values())) - len(seen)
        if not left:
            return self._drawn()
        with torch.no_grad():
            found, _ = optimize_acqf_discrete_local_search(
                worth,
                discrete_choices=[torch.arange(len(options)).double() for options in self._options.values()],
                q=1,
                num_restarts=min(self.RESTARTS, left),
                raw_samples=self.RAW,
                X_avoid=seen,
                return_acq_values=False,
            )
        at = found[0].long().tolist()
        return {path: options[index] for (path, options), index in zip(self._options.items(), at, strict=True)}

    def _acquisition(self) -> Any:
        import torch
        from botorch import fit_gpytorch_mll
        from botorch.acquisition.multi_objective import logei
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.models.deterministic import GenericDeterministicModel
        from botorch.models.model import ModelList
        from botorch.models.transforms import Standardize
        from gpytorch.mlls import ExactMarginalLogLikelihood

        x = self._features(self._positions([params for params, _ in self._told]))
        y = torch.tensor([values for _, values in self._told], dtype=torch.double)
        models: list[Any] = []
        for column in range(1 if self._known else 2):
            model = SingleTaskGP(x, y[:, column : column + 1], outcome_transform=Standardize(1))
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            models.append(model)
        if self._known:
            levels, top = torch.tensor(self.curves.rungs, dtype=torch.double), len(self.curves.rungs) - 1
            models.append(GenericDeterministicModel(lambda rows: levels[(rows[..., :1] * top).round().long()]))
        running = self._features(self._positions(list(self._running.values())))
        return logei.qLogNoisyExpectedHypervolumeImprovement(
            model=ModelList(*models) if self._known else ModelListGP(*models),
            ref_point=[0.0, 0.0],
            X_baseline=x,
            prune_baseline=True,
            X_pending=running if self._running else None,
        )
