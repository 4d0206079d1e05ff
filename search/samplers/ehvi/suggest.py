"""Expected hypervolume improvement per cost, with the forecast of a trial before it trains.

Sparsity is known in advance, and so are the points that a trial would measure and which of its epochs are trained
already; robust and clean accuracy are modelled. A suggestion is a pure function of the observations, the number of the
trial and the seed of the study.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.objectives import pareto
from search.samplers.base import Forecast, SamplerContext
from search.samplers.ehvi import acquisition, candidates
from search.samplers.ehvi.acquisition import Chains, Staircase
from search.samplers.ehvi.gp import Array
from search.samplers.ehvi.surrogate import Posterior, Surrogate, sample
from search.samplers.points import ObservedPoints, worth_keeping
from search.samplers.sobol import sobol_trial, sobol_trials
from search.space.parameters import SPARSITY_PATH, Params, identity
from trainables.core.errors import SpecError
from trainables.core.rng import derive
from trainables.metrics import SPARSITY

MOST_POINTS = 250
"""How many points the models see."""
_RECENT, _FAILED, _RUNNING, _STOPPED = 80, 40, 100, 40
_SPREAD, _FRONT, _NEAR, _SPARSITIES, _WAYS = 128, 12, 6, 8, 16
_POINTS = 8
"""How many new measurements of a trial are scored, evenly chosen and with the last; fewer only lower the bound."""
_REFINED, _AROUND = 2, 8
_BLOCK = 16
"""How many successive suggestions consider the same trials while the front stays; their forecasts are computed once."""
_COST_EXPONENT = 0.5
"""Exponent of the epochs: 1 is gain per epoch, which extends few dense trainings; 0 is gain per trial."""
_DRAWS, _SCREENED, _CORNERS = 32, 24, 64

Names = frozenset[tuple[object, ...]]
Scored = list[tuple[float, Params]]


@dataclass(frozen=True)
class _Chain:
    """What a candidate would measure that is new: `points` by name, in order, and the epochs up to each."""

    points: dict[tuple[object, ...], Params]
    epochs: tuple[int, ...]


def suggest(context: SamplerContext, observed: ObservedPoints, startup: int) -> Params:
    """Return the parameters of the trial with most expected gain per cost; the first `startup` cover the space."""
    # Transferred points train the models; they are on the front only once this study has measured them itself.
    under_way = (identity(params) for params in (*observed.running, *observed.stopped, *observed.failed))
    seen = frozenset((*observed.names[observed.transferred :], *under_way))
    if len(observed.params) < 2 or context.number < startup > observed.transferred:
        return _first_new(context, seen)
    front = observed.values[observed.transferred :][observed.feasible[observed.transferred :]]
    sampled = sample(observed, context.seed)
    running = _yet_to_measure(context, observed, observed.running)
    stopped = [
        (point, last)
        for params, last in zip(observed.stopped, observed.last, strict=True)
        for point in _yet_to_measure(context, observed, [params])
    ][-_STOPPED:]
    rows = worth_keeping(observed, MOST_POINTS, _RECENT, _generator(context, "bounded", _BLOCK))
    observed = observed.part(rows)
    observed = replace(
        observed,
        running=running[-_RUNNING:],
        failed=observed.failed[-_FAILED:],
        stopped=[point for point, _ in stopped],
        last=np.array([last for _, last in stopped]),
    )
    surrogate = Surrogate(context.problem, observed, front[pareto.nondominated(front)], sampled)
    best = _best(context, surrogate, _considered(context, observed), seen)
    around = [near for _, params in best for near in _near(context, params, _AROUND)]
    best = sorted([*best, *_best(context, surrogate, around, seen)], key=lambda scored: -scored[0])
    return best[0][1] if best else _first_new(context, seen)


def _seed(context: SamplerContext, purpose: str, block: int = 1) -> int:
    return derive(context.seed, "ehvi", context.number // block, purpose) % 2**32


def _generator(context: SamplerContext, purpose: str, block: int = 1) -> np.random.Generator:
    return np.random.default_rng(_seed(context, purpose, block))


def _near(context: SamplerContext, params: Params, count: int) -> list[Params]:
    """Return trials near to one, the same for some suggestions in a row."""
    return candidates.near(context.problem.space, params, _generator(context, f"near {params}", _BLOCK), count)


def _first_new(context: SamplerContext, seen: Names) -> Params:
    """Return the trial's own point of a Sobol sequence, or another that would measure something new."""
    space = context.problem.space
    own = sobol_trial(context)
    if _chain(context, own, seen):
        return own
    others = candidates.all_trials(space, 2 * _SPREAD) or sobol_trials(space, 2 * _SPREAD, _seed(context, "new"))
    # A seeded order: the first of all combinations would otherwise come first in every study.
    others = [others[at] for at in _generator(context, "new").permutation(len(others))]
    return next((params for params in others if _chain(context, params, seen)), own)


def _expected(context: SamplerContext, params: Params) -> Forecast | None:
    """Return the forecast of a trial, None where it is impossible."""
    try:
        return context.forecast(params)
    except SpecError:
        return None


def _chain(context: SamplerContext, params: Params, seen: Names) -> _Chain | None:
    """Return what a trial would measure that is new and that the space could have produced; None where nothing is."""
    found = _expected(context, params)
    if found is None:
        return None
    new: dict[tuple[object, ...], tuple[Params, int]] = {}
    for named, point, epochs, known in zip(found.names, found.points, found.epochs, found.known, strict=True):
        # Where sparsity is not searched, all measurements of a trial have one name, and the last one counts.
        if not known and named not in seen:
            new[named] = (point, epochs)
    if not new:
        return None
    kept = list(new)
    if len(kept) > _POINTS:
        kept = [kept[at] for at in np.linspace(0, len(kept) - 1, _POINTS).round().astype(int)]
    return _Chain({named: new[named][0] for named in kept}, tuple(new[named][1] for named in kept))


def _yet_to_measure(context: SamplerContext, observed: ObservedPoints, trials: Sequence[Params]) -> list[Params]:
    """Return the points of trials that are not measured."""
    points: dict[tuple[object, ...], Params] = {}
    for params in trials:
        if found := _expected(context, params):
            points |= dict(zip(found.names, found.points, strict=True))
    measured = set(observed.names)
    return [point for named, point in points.items() if named not in measured]


def _considered(context: SamplerContext, observed: ObservedPoints) -> list[Params]:
    """Return all trials of a small space, else an even cover and what lies near the front."""
    space = context.problem.space
    if (whole := candidates.all_trials(space, 2 * _SPREAD)) is not None:
        return whole
    found = sobol_trials(space, _SPREAD, _seed(context, "spread", _BLOCK))
    # The far end of a chain shows all that lies on its way.
    found += [far for params in found[::4] for far in candidates.at_sparsities(space, params, (1.0,))]
    draw = _generator(context, "sparsities", _BLOCK)
    shares = ((np.arange(_SPARSITIES) + draw.random()) / _SPARSITIES).tolist()
    for params in _leading(context, observed):
        found.append(params)
        found += _near(context, params, _NEAR)
        found += candidates.at_sparsities(space, params, (*shares, 1.0))
    # A stored training may be worth extending although another would be better from the start.
    shares = draw.random(2).tolist()
    for params in _stored(context, observed):
        found += candidates.at_sparsities(space, params, (*shares, 1.0))
    return list({identity(params): params for params in found}.values())


def _leading(context: SamplerContext, observed: ObservedPoints) -> list[Params]:
    """Return the points of the front that add most to it; those that violate least where none is feasible."""
    feasible, target = observed.feasible, context.problem.target
    if not feasible.any() or target:
        violation = observed.excess
        objectives = list(context.problem.objectives)
        sparsity = observed.values[:, objectives.index(SPARSITY)] if target else 0 * violation
        order = np.lexsort((-sparsity, violation))
    else:
        shares = np.array(pareto.contributions(np.where(feasible[:, None], observed.values, 0.0)), dtype=float)
        order = np.argsort(-shares, kind="stable")[: int((shares > 0).sum())]
    return [observed.params[at] for at in order[:_FRONT]]


def _stored(context: SamplerContext, observed: ObservedPoints) -> list[Params]:
    """Return a trial for some of the trainings that differ in more than sparsity: the newest, and others at random."""
    ways = {identity({**params, SPARSITY_PATH: None}): params for params in observed.params}
    found = list(ways.values())
    # Each has a number of its own, so that the choice stays while more are added.
    drawn = {_seed(context, f"way {way}", _BLOCK): params for way, params in list(ways.items())[: -_WAYS // 2]}
    return found[-_WAYS // 2 :] + [drawn[number] for number in sorted(drawn)[: _WAYS // 2]]


def _best(context: SamplerContext, surrogate: Surrogate, considered: list[Params], seen: Names) -> Scored:
    """Return the best of the candidates and of the points on their way, by expected gain per cost, best first."""
    chains = [chain for params in considered if (chain := _chain(context, params, seen))]
    if not chains:
        return []
    points = {named: point for chain in chains for named, point in chain.points.items()}
    rows = {key: at for at, key in enumerate(points)}
    predicted = surrogate.predict(list(points.values()))
    width = max(len(chain.points) for chain in chains)
    real = np.array([[at < len(chain.points) for at in range(width)] for chain in chains])
    index = np.array([_padded([rows[named] for named in chain.points], width) for chain in chains])
    # A measurement costs about as much as an epoch, so that no trial is free.
    costs = (1.0 + np.array([_padded(chain.epochs, width) for chain in chains])) ** _COST_EXPONENT
    scores = np.where(real, _gains(context, surrogate, predicted, index, real) / costs, -1.0)
    if scores.max() <= 0:
        scores = np.where(real, predicted.deviation.sum(axis=1)[index] / costs, -1.0)
    # Rounded, so that the last bit, which depends on the processor, chooses nothing.
    order = np.argsort([-float(f"{score:.9e}") for score in scores.ravel()], kind="stable")
    found: dict[tuple[object, ...], tuple[float, Params]] = {}
    for flat in order:
        row, column = divmod(int(flat), width)
        if not real[row, column] or len(found) == _REFINED:
            break
        named, params = list(chains[row].points.items())[column]
        found.setdefault(named, (float(scores[row, column]), params))
    return list(found.values())


def _padded(values: Sequence[int], width: int) -> list[int]:
    return [*values, *[values[-1]] * (width - len(values))]


def _gains(context: SamplerContext, surrogate: Surrogate, predicted: Posterior, index: Array, real: Array) -> Array:
    """Return the expected gain in hypervolume after each measurement of each candidate.

    Shapes: index and real (candidates, points), index into the rows of `predicted`; returns (candidates, points).
    """
    measures = list(context.problem.objectives)
    # With a target only sparsity is improved: everything else that is asked of a network is a bound.
    aims = (SPARSITY,) if context.problem.target else measures
    known = [at for at, measure in enumerate(measures) if measure in aims and measure in surrogate.known]
    unknown = [at for at, measure in enumerate(measures) if measure in aims and measure not in surrogate.known]
    if len(known) > 1 or len(unknown) > 1:
        return _sampled(context, surrogate, predicted, index, real)
    count, front = len(predicted.mean), surrogate.front
    aim = (predicted.mean[:, known[0]], front[:, known[0]]) if known else (np.ones(count), np.ones(len(front)))
    if unknown:
        value = (predicted.mean[:, unknown[0]], predicted.deviation[:, unknown[0]], front[:, unknown[0]])
    else:
        value = (np.ones(count), np.zeros(count), np.ones(len(front)))
    bounds, floors = surrogate.bounds_beside([measures[at] for at in unknown])
    likely = acquisition.feasible(predicted.violation[:, bounds], predicted.violation_deviation[:, bounds])
    chains = Chains(aim[0][index], value[0][index], value[1][index], np.where(real, likely[index], 0.0))
    return acquisition.over_staircase(chains, Staircase.of(aim[1], value[2]), max(floors.values(), default=-math.inf))


def _sampled(context: SamplerContext, surrogate: Surrogate, predicted: Posterior, index: Array, real: Array) -> Array:
    """Estimate the same from draws, for the candidates with the largest gain at one deviation above the mean."""
    front = surrogate.front[np.argsort(-np.array(pareto.contributions(surrogate.front)), kind="stable")[:_CORNERS]]
    measures = list(context.problem.objectives)
    bounds, least = surrogate.bounds_beside(measures)
    floors = np.array([least.get(measure, -math.inf) for measure in measures])
    dimensions = len(measures) + len(bounds)
    lucky = np.concatenate([np.ones(len(measures)), -np.ones(len(bounds))])[None]

    def gain(row: int, column: int, draws: Array) -> float:
        at = index[row, : column + 1]
        objectives = (predicted.mean[at], predicted.deviation[at])
        violations = (predicted.violation[at][:, bounds], predicted.violation_deviation[at][:, bounds])
        return acquisition.by_sampling(*objectives, *violations, front, draws, floors)

    gains = np.zeros(index.shape)
    for row, column in np.argwhere(real):
        gains[row, column] = gain(row, column, lucky)
    draws = acquisition.normal_draws(_DRAWS, dimensions, _seed(context, "draws"))
    promising = np.argsort(-gains.ravel(), kind="stable")[:_SCREENED]
    found = np.zeros(index.shape)
    for flat in promising:
        row, column = divmod(int(flat), index.shape[1])
        if real[row, column]:
            found[row, column] = gain(row, column, draws)
    return found
