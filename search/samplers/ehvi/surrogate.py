"""The surrogate: models of the expensive measures of trials; what follows from their parameters is not modelled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search.files.fields import bound
from search.objectives.problem import SearchProblem
from search.samplers.ehvi.features import Encoder
from search.samplers.ehvi.gp import Array, Gaussian, Lengths, condition, fit
from search.samplers.points import ObservedPoints
from search.space.parameters import SPARSITY_PATH, Params
from trainables.core.rng import derive
from trainables.metrics import CLEAN_ACCURACY, NONZERO, ROBUST_ACCURACY, SPARSITY

KNOWN = (SPARSITY, NONZERO)
"""Measures that follow from the parameters of a trial; as an objective, either is the sparsity."""

ACCURACIES = (ROBUST_ACCURACY, CLEAN_ACCURACY)

AS_ASKED = 0.06
"""How far the sparsity of networks may be from the one asked for, which whole filters do not give exactly."""

FIT_POINTS = 150
"""From how many points the hyperparameters of a model are estimated; all points condition it."""


@dataclass(frozen=True)
class Posterior:
    """Means and standard deviations at some trials; a deviation of 0 is a certain value.

    Shapes: mean and deviation (trials, objectives), violation and violation_deviation (trials, bounds).
    """

    mean: Array
    deviation: Array
    violation: Array
    violation_deviation: Array


@dataclass(frozen=True)
class _Model:
    """A process conditioned on points. Shapes: x (points, features), y (points,)."""

    process: Gaussian
    lengths: Lengths
    x: Array
    y: Array

    def with_predicted(self, rows: Array, groups: Array, most: Array | float = math.inf) -> _Model:
        """Condition the model on its own mean at more rows (trials, features), as if it had been measured.

        It is taken to be no more than `most` (trials,), where that is known and no NaN.
        """
        y = np.append(self.y, np.fmin(self.process.predict(rows)[0], most))
        x = np.concatenate([self.x, rows])
        return _Model(condition(x, y, groups, self.lengths, self.y), self.lengths, x, y)


class Surrogate:
    """Models of the expensive measures of a study, fitted to its observations.

    A failed trial counts as the worst that was measured; a point that is being measured as its prediction; and a point
    that a stopped trial did not come to as its prediction, or as accurate as the trial was at last, if that is less.
    """

    def __init__(self, problem: SearchProblem, points: ObservedPoints, front: Array, sampled: ObservedPoints) -> None:
        """Fit the models.

        `front` are the objectives of the feasible points that are not dominated (M, objectives), `sampled` are the
        points from which hyperparameters are estimated.
        """
        self._measures = list(problem.objectives)
        self._bounds = {label: (measure, *bound(text)) for label, (measure, text) in problem.bounds().items()}
        self._fixed = problem.sparsity
        self._encoder = Encoder(problem.space)
        self._slopes = {
            label: _affine(points.violations[:, at], self.sparsities(points.params), measure, operator)
            for at, (label, (measure, operator, _)) in enumerate(self._bounds.items())
            if measure in KNOWN
        }
        # Where networks are not as sparse as asked (one is made whole again, say), their sparsity is modelled.
        self.known = KNOWN if self._as_asked(points) else ()
        """Measures that follow from the parameters."""
        self._models = self._fitted(points, sampled)
        if points.stopped:
            rows, groups = self._encoder.rows(points.stopped), self._encoder.groups
            most = {what: points.last[:, at] for at, what in enumerate(self._measures) if what in ACCURACIES}
            self._models = {
                what: model.with_predicted(rows, groups, most.get(what, math.inf))
                for what, model in self._models.items()
            }
        self.front = front
        """Objectives of the front, with those predicted for running trials (points, objectives)."""
        if points.running:
            rows = self._encoder.rows(points.running)
            groups = self._encoder.groups
            self._models = {what: model.with_predicted(rows, groups) for what, model in self._models.items()}
            predicted = self.predict(points.running)
            self.front = np.concatenate([front, predicted.mean[(predicted.violation <= 0).all(axis=1)]])

    def sparsities(self, trials: Sequence[Params]) -> Array:
        """Return the sparsity that each trial asks for (trials,)."""
        return np.array([float(params.get(SPARSITY_PATH, self._fixed)) for params in trials])

    def _as_asked(self, points: ObservedPoints) -> bool:
        """Return whether all networks so far are about as sparse as their parameters ask."""
        asked = self.sparsities(points.params)
        measured = [points.values[:, at] for at, measure in enumerate(self._measures) if measure in KNOWN]
        for at, label in enumerate(self._bounds):
            if label in self._slopes:
                slope, offset = self._slopes[label]
                measured.append((points.violations[:, at] - offset) / slope)
        return all(bool((np.abs(values - asked) <= AS_ASKED).all()) for values in measured)

    def bounds_beside(self, aims: Sequence[str]) -> tuple[list[int], dict[str, float]]:
        """Return the bounds that count beside the objectives `aims`, by index, and the least values of these.

        Of several bounds on one accuracy the tightest counts. One on an accuracy among the aims is met or not by the
        very value that is aimed at, and so is no event beside it.
        """
        tightest: dict[str, tuple[float, int]] = {}
        others = []
        for at, (measure, operator, limit) in enumerate(self._bounds.values()):
            if operator == ">=" and measure in ACCURACIES:
                tightest[measure] = max(tightest.get(measure, (-math.inf, at)), (limit, at))
            else:
                others.append(at)
        floors = {measure: limit for measure, (limit, _) in tightest.items() if measure in aims}
        return sorted([*others, *(at for measure, (_, at) in tightest.items() if measure not in floors)]), floors

    def predict(self, trials: Sequence[Params]) -> Posterior:
        """Return the posterior of objectives and violations at some trials."""
        rows = self._encoder.rows(trials)
        modelled = {what: model.process.predict(rows) for what, model in self._models.items()}
        sparsity, certain = self.sparsities(trials), np.zeros(len(trials))
        objectives = [(sparsity, certain) if measure in self.known else modelled[measure] for measure in self._measures]
        violations = []
        for label, (measure, operator, limit) in self._bounds.items():
            if measure in self.known:
                slope, offset = self._slopes[label]
                violations.append((slope * sparsity + offset, certain))
            elif _violation(label) in modelled:
                violations.append(modelled[_violation(label)])
            else:
                mean, deviation = modelled[measure]
                violations.append((limit - mean if operator == ">=" else mean - limit, deviation))
        return Posterior(*_columns(objectives, len(trials)), *_columns(violations, len(trials)))

    def _fitted(self, points: ObservedPoints, sampled: ObservedPoints) -> dict[str, _Model]:
        """Fit a model of each objective and bound that does not follow from the parameters."""
        x, few = (self._encoder.rows([*some.params, *points.failed]) for some in (points, sampled))
        targets = self._targets(sampled)
        models = {}
        for what, (values, worst) in self._targets(points).items():
            failed = np.full(len(points.failed), worst)
            lengths = fit(few, np.append(targets[what][0], failed), self._encoder.groups)
            y = np.append(values, failed)
            models[what] = _Model(condition(x, y, self._encoder.groups, lengths), lengths, x, y)
        return models

    def _targets(self, points: ObservedPoints) -> Mapping[str, tuple[Array, float]]:
        """Return the values (points,) of all that is modelled, by its name, and the worst of them."""
        targets = {}
        for at, measure in enumerate(self._measures):
            if measure not in self.known:
                targets[measure] = (points.values[:, at], float(points.values[:, at].min()))
        for at, (label, (measure, *_)) in enumerate(self._bounds.items()):
            # An accuracy that is an objective has its model; counts have other units as a bound than as an objective.
            if measure not in self.known and not (measure in targets and measure in ACCURACIES):
                targets[_violation(label)] = (points.violations[:, at], float(points.violations[:, at].max()))
        return targets


def _violation(label: str) -> str:
    return f"violation of {label}"


def _affine(violations: Array, sparsity: Array, measure: str, operator: str) -> tuple[float, float]:
    """Return slope and offset of the violation of a bound that sparsity decides, from those measured (points,)."""
    slope = -1.0 if (operator == ">=") == (measure == SPARSITY) else 1.0
    return slope, float((violations - slope * sparsity).mean())


def _columns(pairs: Sequence[tuple[Array, Array]], count: int) -> tuple[Array, Array]:
    """Stack means and deviations, (count,) each, as columns."""
    if not pairs:
        return np.zeros((count, 0)), np.zeros((count, 0))
    return np.stack([mean for mean, _ in pairs], axis=1), np.stack([deviation for _, deviation in pairs], axis=1)


def sample(points: ObservedPoints, seed: int) -> ObservedPoints:
    """Choose the points from which the hyperparameters of models are estimated.

    It is the same choice until there are a tenth more points, so that successive suggestions estimate them once.
    """
    settled = max(2, int(1.1 ** math.floor(math.log(max(2, len(points.params)), 1.1) + 1e-9)))
    indices = {named: at for at, named in enumerate(points.names[:settled])}
    draw = np.random.default_rng(derive(seed, "sample", settled) % 2**32)
    return points.part(np.sort(draw.permutation(list(indices.values()))[:FIT_POINTS]))
