"""What is believed of points that are not measured: models of the expensive measures, and the rest as it is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from search.files.fields import bound
from search.launch.cost import SPARSITY_PATH
from search.objectives import pareto
from search.samplers.ehvi.features import Encoder
from search.samplers.ehvi.gp import Array, Gaussian, Lengths, condition, fit
from search.space.parameters import Params, name
from trainables.core.rng import derive
from trainables.metrics import CLEAN_ACCURACY, NONZERO, ROBUST_ACCURACY, SPARSITY

if TYPE_CHECKING:
    from search.study.spec import StudySpec

KNOWN = (SPARSITY, NONZERO)
"""Measures that a trial's parameters tell; as an objective, either is the sparsity."""

AS_ASKED = 0.06
"""How far networks may be from the sparsity that they were asked to have, which whole filters do not give exactly."""

FIT_POINTS = 150
"""How many points the hyperparameters of a model are estimated from; all condition it."""


@dataclass(frozen=True)
class Observations:
    """What a study has taught, in that order.

    `values` (points, objectives) and `excess` (points, constraints) are of the points `params`, of which the first
    `lent` are other studies'; `running` are points that are being measured, `failed` trials that gave no result.
    """

    params: list[Params]
    values: Array
    excess: Array
    running: list[Params]
    failed: list[Params]
    lent: int = 0

    @cached_property
    def names(self) -> list[tuple[object, ...]]:
        """What tells the points apart: equal names are one network."""
        return [name(params) for params in self.params]

    @property
    def fits(self) -> Array:
        """Say of each point whether it meets all constraints."""
        return np.asarray((self.excess <= 0).all(axis=1))

    def part(self, rows: Array) -> Observations:
        """Return what some of the points teach, by their places in rising order."""
        lent = int((rows < self.lent).sum())
        kept = [self.params[at] for at in rows]
        return Observations(kept, self.values[rows], self.excess[rows], self.running, self.failed, lent)


@dataclass(frozen=True)
class Posterior:
    """Means and deviations of objectives (points, objectives) and excesses (points, constraints); 0 is no doubt."""

    mean: Array
    deviation: Array
    excess: Array
    excess_deviation: Array


@dataclass(frozen=True)
class _Model:
    process: Gaussian
    lengths: Lengths
    x: Array
    y: Array

    def pretending(self, there: Array, groups: Array) -> _Model:
        """Take what the model expects at more rows for measured."""
        y = np.append(self.y, self.process.predict(there)[0])
        x = np.concatenate([self.x, there])
        return _Model(condition(x, y, groups, self.lengths, self.y), self.lengths, x, y)


class Surrogate:
    """Models of a study's expensive measures, fitted to what it has taught.

    A trial that failed counts as the worst that was measured; a point that is being measured as what is
    expected of it.
    """

    def __init__(self, spec: StudySpec, told: Observations, front: Array, sampled: Observations) -> None:
        """Fit; `front` are objectives of all feasible points, `sampled` are those for the hyperparameters."""
        self._measures = list(spec.objectives)
        self._bounds = {label: (measure, *bound(text)) for label, (measure, text) in spec.bounds().items()}
        self._fixed = spec.recipe.sparsity
        self._encoder = Encoder(spec.space)
        self._slopes = {
            label: _affine(told.excess[:, at], self.sparsities(told.params), measure, operator)
            for at, (label, (measure, operator, _)) in enumerate(self._bounds.items())
            if measure in KNOWN
        }
        # What is not as sparse as it was asked to be (a network made whole again, say) has its sparsity learned.
        self.known = KNOWN if self._as_asked(told) else ()
        """Measures that the parameters tell for certain."""
        self._models = self._fitted(told, sampled)
        self.front = front
        """Objectives of the feasible points, also those that are expected (points, objectives)."""
        if told.running:
            there = self._encoder.rows(told.running)
            groups = self._encoder.groups
            self._models = {what: model.pretending(there, groups) for what, model in self._models.items()}
            pretended = self.predict(told.running)
            self.front = np.concatenate([front, pretended.mean[(pretended.excess <= 0).all(axis=1)]])

    def sparsities(self, points: Sequence[Params]) -> Array:
        """Return the sparsity that each point asks for."""
        return np.array([float(params.get(SPARSITY_PATH, self._fixed)) for params in points])

    def _as_asked(self, told: Observations) -> bool:
        """Say whether all networks so far are about as sparse as their parameters tell."""
        asked = self.sparsities(told.params)
        found = [told.values[:, at] for at, measure in enumerate(self._measures) if measure in KNOWN]
        for at, label in enumerate(self._bounds):
            if label in self._slopes:
                slope, offset = self._slopes[label]
                found.append((told.excess[:, at] - offset) / slope)
        return all(bool((np.abs(values - asked) <= AS_ASKED).all()) for values in found)

    def predict(self, points: Sequence[Params]) -> Posterior:
        """Say what is believed of points."""
        rows = self._encoder.rows(points)
        found = {what: model.process.predict(rows) for what, model in self._models.items()}
        sparsity, certain = self.sparsities(points), np.zeros(len(points))
        objectives = [(sparsity, certain) if measure in self.known else found[measure] for measure in self._measures]
        excesses = []
        for label, (measure, operator, limit) in self._bounds.items():
            if measure in self.known:
                slope, offset = self._slopes[label]
                excesses.append((slope * sparsity + offset, certain))
            elif measure in found:
                mean, deviation = found[measure]
                excesses.append((limit - mean if operator == ">=" else mean - limit, deviation))
            else:
                excesses.append(found[_excess(label)])
        return Posterior(*_columns(objectives, len(points)), *_columns(excesses, len(points)))

    def _fitted(self, told: Observations, sampled: Observations) -> dict[str, _Model]:
        """Fit a model for each objective that is not known, and for each constraint on something else."""
        x, few = (self._encoder.rows([*some.params, *told.failed]) for some in (told, sampled))
        shown = self._learned(sampled)
        models = {}
        for what, (values, worst) in self._learned(told).items():
            failed = np.full(len(told.failed), worst)
            lengths = fit(few, np.append(shown[what][0], failed), self._encoder.groups)
            y = np.append(values, failed)
            models[what] = _Model(condition(x, y, self._encoder.groups, lengths), lengths, x, y)
        return models

    def _learned(self, told: Observations) -> Mapping[str, tuple[Array, float]]:
        """Return what is modelled: its values and the worst of them."""
        found = {}
        for at, measure in enumerate(self._measures):
            if measure not in self.known:
                found[measure] = (told.values[:, at], float(told.values[:, at].min()))
        for at, (label, (measure, *_)) in enumerate(self._bounds.items()):
            # An accuracy that is an objective has its model; counts are bounded in other units than they are aimed at.
            if measure not in self.known and not (measure in found and measure in (ROBUST_ACCURACY, CLEAN_ACCURACY)):
                found[_excess(label)] = (told.excess[:, at], float(told.excess[:, at].max()))
        return found


def _excess(label: str) -> str:
    return f"excess of {label}"


def _affine(excess: Array, sparsity: Array, measure: str, operator: str) -> tuple[float, float]:
    """Return slope and offset of the excess over a bound that sparsity decides, from the points that were told."""
    slope = -1.0 if (operator == ">=") == (measure == SPARSITY) else 1.0
    return slope, float((excess - slope * sparsity).mean())


def _columns(pairs: Sequence[tuple[Array, Array]], count: int) -> tuple[Array, Array]:
    if not pairs:
        return np.zeros((count, 0)), np.zeros((count, 0))
    return np.stack([mean for mean, _ in pairs], axis=1), np.stack([deviation for _, deviation in pairs], axis=1)


def bounded(told: Observations, most: int, recent: int, draw: np.random.Generator) -> Observations:
    """Keep at most `most` points, those of `worth_keeping`."""
    return told.part(worth_keeping(told, most, recent, draw))


def sample(told: Observations, seed: int) -> Observations:
    """Choose the points from which the hyperparameters of models are estimated.

    It is the same choice until a tenth more points have been told, so that suggestions in a row estimate them once.
    """
    settled = max(2, int(1.1 ** math.floor(math.log(max(2, len(told.params)), 1.1) + 1e-9)))
    places = {named: at for at, named in enumerate(told.names[:settled])}
    draw = np.random.default_rng(derive(seed, "sample", settled) % 2**32)
    return told.part(np.sort(draw.permutation(list(places.values()))[:FIT_POINTS]))


def worth_keeping(told: Observations, most: int, recent: int, draw: np.random.Generator) -> Array:
    """Choose at most `most` points: the front, the `recent` newest, those nearest to the front, and some of the rest.

    Of points with equal parameters the newest stays: they are one network, which several trials have in common.
    """
    last = {named: at for at, named in enumerate(told.names)}
    rows = np.array(sorted(last.values()), dtype=int)
    if len(rows) > most:
        fits = told.fits[rows]
        values = np.where(fits[:, None], told.values[rows], 0.0)
        on_front = np.array(pareto.nondominated(values), dtype=bool) & fits
        near = np.argsort(_shortfall(values, values[on_front]), kind="stable")
        orders = (np.flatnonzero(on_front)[::-1][: most // 2], np.arange(len(rows))[::-1][:recent], near[: most // 2])
        chosen: dict[int, None] = {}
        for order in (*orders, draw.permutation(len(rows))):
            chosen.update(dict.fromkeys(order.tolist()))
        rows = rows[np.sort(list(chosen)[:most])]
    return rows


def _shortfall(values: Array, front: Array) -> Array:
    """Return by how much each point would have to gain in every objective to reach the front, or some of it."""
    if not len(front):
        return np.zeros(len(values))
    front = front[:: 1 + len(front) // 64]
    return np.asarray((front[None] - values[:, None]).min(axis=2).max(axis=1))
