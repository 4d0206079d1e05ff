"""The confirmed points of a study: on the test split, under the worst of several attacks, over seeds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from search import objectives
from search.files.fields import bound
from search.objectives import pareto
from search.objectives.replicates import deviation
from search.results.bootstrap import Sample, p_nondominated, unpacked
from search.results.confirmed_network import (
    Accuracy,
    AttackResult,
    Corrupted,
    CurvePoint,
    Network,
    Replicate,
    attack_result,
    label,
    replicate,
)
from search.results.table import APART, PointRow
from search.space.parameters import standing_for
from search.study.spec import StudySpec
from trainables.metrics import CLEAN_ACCURACY, ROBUST_ACCURACY
from trainables.store.confirmations import ALL, Confirmation, examples_name
from trainables.store.records import Point

_ACCURACIES = (ROBUST_ACCURACY, CLEAN_ACCURACY)
_SIZES = ("sparsity", "nonzero", "prunable", "macs_dense", "macs_effective")


@dataclass(frozen=True)
class ConfirmedRow:
    """One confirmed point.

    Accuracies are those of the search's own network, `_mean` and `_sd` those over the networks of all seeds. `estimate`
    is what the search measured on the validation split; `drop` is how much of it was lost. `complete` tells whether
    all planned attacks were run: only such points are compared, by their means. Ranks count by robust accuracy among
    the compared points, from 1: those of the search, too, by the mean over replicates (`estimate_mean`). Status and
    flags are those of all replicates.
    """

    point: str
    trial: int
    study: str
    recipe: str | None
    model: str | None
    data: str | None
    on_front: bool
    on_search_front: bool
    p_nondominated: float | None
    complete: bool
    feasible: bool
    status: str
    flags: tuple[str, ...]
    robust_accuracy: float
    robust_accuracy_low: float
    robust_accuracy_high: float
    robust_accuracy_mean: float
    robust_accuracy_sd: float | None
    clean_accuracy: float
    clean_accuracy_low: float
    clean_accuracy_high: float
    clean_accuracy_mean: float
    clean_accuracy_sd: float | None
    seeds: int
    examples: int
    estimate: float
    estimate_low: float
    estimate_high: float
    estimate_examples: int
    estimate_attack: str
    drop: float
    clean_estimate: float
    clean_drop: float
    rank: int | None
    rank_estimate: int | None
    noise_off_accuracy: float | None
    sparsity: float
    nonzero: int
    prunable: int
    macs_dense: int | None
    macs_effective: int | None
    attack: str
    norm: str
    eps: float
    eps_text: str
    split: str
    tier: str
    limit: int | None
    seconds: float
    device: str
    weights_sha256: str
    code_version: str
    started: str
    finished: str
    params: Mapping[str, Any] = field(metadata=APART, repr=False)
    measured: Point = field(metadata=APART, repr=False)
    estimate_mean: float = field(metadata=APART, repr=False)
    attacks: tuple[AttackResult, ...] = field(metadata=APART, repr=False)
    curve: tuple[CurvePoint, ...] = field(metadata=APART, repr=False)
    corruptions: tuple[Corrupted, ...] = field(metadata=APART, repr=False)
    replicates: tuple[Replicate, ...] = field(metadata=APART, repr=False)

    @property
    def own_params(self) -> Mapping[str, Any]:
        """The parameters of a trial that would have ended with this network."""
        return standing_for(self.params, self.measured.stands_for)

    @property
    def verdicts(self) -> str:
        """The bits, as hex, of the examples of the test split that no attack broke."""
        return next(each.verdicts for each in self.replicates if each.weights_sha256 == self.weights_sha256)


def rows(
    spec: StudySpec, points: Iterable[PointRow], results: Iterable[Confirmation], examples: int | str | None = None
) -> list[ConfirmedRow]:
    """Return the points that were attacked, from dense to sparse, with the confirmed front marked.

    `examples` chooses the set of examples: a number, or `all`; by default the whole test split if it was measured, else
    the largest set.
    """
    chosen = _of_one_set(list(results), examples)
    by_weights: dict[str, list[Confirmation]] = defaultdict(list)
    for result in chosen:
        by_weights[result.weights_sha256].append(result)
    measured = {
        weights: Network(found)
        for weights, found in by_weights.items()
        if any(result.role == "clean" for result in found)
    }
    # What no attack has seen yet has no robust accuracy.
    networks = {weights: own for weights, own in measured.items() if own.attacks_at(float(spec.protocol.eps))}
    alike: dict[Any, list[PointRow]] = defaultdict(list)
    for point in points:
        if point.weights_sha256 in networks:
            alike[point.weights_sha256 if point.configuration is None else point.network].append(point)
    found = [_row(spec, rows[0].for_all_replicates(), _networks(spec, rows, networks)) for rows in alike.values()]
    return _compared(spec, sorted(found, key=lambda row: (row.sparsity, row.trial, row.point)))


def sets(results: Iterable[Confirmation]) -> list[str]:
    """Return the names of the sets of examples that were measured, the largest last: `all`, or `first-500`."""
    limits = {result.limit for result in results}
    return [examples_name(limit) for limit in sorted(limits, key=lambda limit: (limit is None, limit or 0))]


def _of_one_set(results: list[Confirmation], examples: int | str | None) -> list[Confirmation]:
    known = sets(results)
    if not known:
        return []
    wanted = known[-1] if examples is None else ALL if examples == ALL else examples_name(int(examples))
    return [result for result in results if examples_name(result.limit) == wanted]


def _networks(spec: StudySpec, rows: Sequence[PointRow], networks: Mapping[str, Network]) -> list[Network]:
    """Return the networks of a point, its own first: of rows that share one, those of further seeds too."""
    own = networks[rows[0].weights_sha256]
    if rows[0].configuration is None:
        return [own, *_others(networks, rows[0].weights_sha256, {row.point for row in rows}, spec.seed)]
    others = dict.fromkeys(row.weights_sha256 for row in rows if row.weights_sha256 != rows[0].weights_sha256)
    return [own, *(networks[weights] for weights in others if networks[weights].complete)]


def _others(networks: Mapping[str, Network], weights: str, ids: set[str], seed: int) -> list[Network]:
    """Return the networks of further seeds for a point, in order of seed; those without all attacks do not count."""
    found = {
        network.clean.seed: network
        for other, network in networks.items()
        if other != weights and network.clean.point in ids and network.clean.seed != seed and network.complete
    }
    return [found[each] for each in sorted(found)]


def _row(spec: StudySpec, point: PointRow, networks: Sequence[Network]) -> ConfirmedRow:
    own, eps = networks[0], float(spec.protocol.eps)
    robust, clean = own.accuracy(eps), own.accuracy(0.0)
    replicates = tuple(replicate(network, eps) for network in networks)
    robusts, cleans = [each.robust.value for each in replicates], [each.clean.value for each in replicates]
    named = ("point", "trial", "study", "recipe", "model", "data", "status", "flags", "params", "measured")
    return ConfirmedRow(
        **{name: getattr(point, name) for name in (*named, *_SIZES, "norm", "eps", "eps_text", "weights_sha256")},
        estimate_mean=point.judged.robust_accuracy,
        on_front=False,
        on_search_front=point.on_front,
        p_nondominated=None,
        complete=own.complete,
        feasible=False,
        robust_accuracy=robust.value,
        robust_accuracy_low=robust.low,
        robust_accuracy_high=robust.high,
        robust_accuracy_mean=statistics.fmean(robusts),
        robust_accuracy_sd=deviation(robusts),
        clean_accuracy=clean.value,
        clean_accuracy_low=clean.low,
        clean_accuracy_high=clean.high,
        clean_accuracy_mean=statistics.fmean(cleans),
        clean_accuracy_sd=deviation(cleans),
        seeds=len(networks),
        examples=own.examples,
        estimate=point.robust_accuracy,
        estimate_low=point.robust_accuracy_low,
        estimate_high=point.robust_accuracy_high,
        estimate_examples=point.examples,
        estimate_attack=point.attack,
        drop=point.robust_accuracy - robust.value,
        clean_estimate=point.clean_accuracy,
        clean_drop=point.clean_accuracy - clean.value,
        rank=None,
        rank_estimate=None,
        noise_off_accuracy=own.noise_off,
        attack=label(own, eps),
        split="test",
        tier="confirmed",
        limit=own.clean.limit,
        seconds=sum(result.seconds for network in networks for result in network.results),
        device=own.clean.device,
        code_version=own.clean.code_version,
        started=min(result.started for network in networks for result in network.results),
        finished=max(result.finished for network in networks for result in network.results),
        attacks=tuple(attack_result(result) for result in own.attacks),
        curve=own.curve(),
        corruptions=tuple(
            Corrupted(result.attack, result.label, Accuracy.of(result.correct_count, result.examples))
            for result in own.results
            if result.role == "corruption"
        ),
        replicates=replicates,
    )


def _compared(spec: StudySpec, found: list[ConfirmedRow]) -> list[ConfirmedRow]:
    """Return the rows with what follows from comparing those that are complete: front, probability, ranks."""
    means = [_mean(row) for row in found]
    feasible = [objectives.feasible(mean, spec) for mean in means]
    compared = [
        row.complete and objectives.valid(mean, spec) and row.status != "invalid"
        for row, mean in zip(found, means, strict=True)
    ]
    values = [
        objectives.values(mean, spec) if fits and counts else None
        for mean, fits, counts in zip(means, feasible, compared, strict=True)
    ]
    rank = _ranks([mean[ROBUST_ACCURACY] for mean in means], compared)
    before = _ranks([row.estimate_mean for row in found], compared)
    sure = iter(_probabilities(spec, [row for row, counts in zip(found, compared, strict=True) if counts]))
    return [
        replace(
            row,
            feasible=fits,
            on_front=front,
            p_nondominated=next(sure) if counts else None,
            rank=now,
            rank_estimate=then,
        )
        for row, fits, front, counts, now, then in zip(
            found, feasible, pareto.front(values), compared, rank, before, strict=True
        )
    ]


def _mean(row: ConfirmedRow) -> dict[str, Any]:
    """Return the measures of a point as objectives read them: accuracies and sparsity over the seeds."""
    sizes = {name: getattr(row, name) for name in _SIZES}
    sparsity = statistics.fmean(each.sparsity for each in row.replicates)
    accuracies = {ROBUST_ACCURACY: row.robust_accuracy_mean, CLEAN_ACCURACY: row.clean_accuracy_mean}
    return {**sizes, "sparsity": sparsity, **accuracies}


def _ranks(values: Sequence[float], compared: Sequence[bool]) -> list[int | None]:
    """Return the ranks of the compared values, the largest first; equal ones share the best."""
    known = [value for value, counts in zip(values, compared, strict=True) if counts]
    return [
        1 + sum(other > value for other in known) if counts else None
        for value, counts in zip(values, compared, strict=True)
    ]


def _probabilities(spec: StudySpec, found: Sequence[ConfirmedRow]) -> list[float]:
    """Return the probability of each point to be non-dominated."""
    samples = [_sample(spec, row) for row in found]
    fixed = [_other_violations(spec, row) for row in found]

    def judge(at: int, accuracies: np.ndarray, others: np.ndarray) -> np.ndarray:
        drawn = dict(zip(_ACCURACIES, accuracies.T, strict=True))
        values = others.copy()
        for column, measure in enumerate(spec.objectives):
            values[:, column] = drawn.get(measure, values[:, column])
        infeasible = np.full(len(values), fixed[at] > 0)
        for measure in drawn.keys() & spec.constraints.keys():
            operator, limit = bound(spec.constraints[measure])
            infeasible |= drawn[measure] < limit if operator == ">=" else drawn[measure] > limit
        values[infeasible] = np.nan
        return values

    return p_nondominated(samples, judge)


def _other_violations(spec: StudySpec, row: ConfirmedRow) -> float:
    """Return the largest violation of a constraint that does not depend on examples."""
    each = zip(spec.constraints, objectives.violations(_mean(row), spec), strict=True)
    return max([0.0, *(violation for measure, violation in each if measure not in _ACCURACIES)])


def _sample(spec: StudySpec, row: ConfirmedRow) -> Sample:
    texts = [(each.verdicts, each.clean_verdicts) for each in row.replicates]
    verdicts = np.array([[unpacked(text, row.examples) for text in both] for both in texts])
    others = [objectives.values({**_mean(row), "sparsity": each.sparsity}, spec) for each in row.replicates]
    return Sample(verdicts, np.array(others))


def details(row: ConfirmedRow) -> dict[str, Any]:
    """Return what the columns of a confirmed point leave out, as JSON-able data."""
    return {
        "point": row.point,
        "attacks": [asdict(attack) for attack in row.attacks],
        "curve": [{"eps": at.eps, **asdict(at.accuracy)} for at in row.curve],
        "corruptions": [{"name": c.name, "label": c.label, **asdict(c.accuracy)} for c in row.corruptions],
        "seeds": [asdict(each) for each in row.replicates],
        "verdicts": row.verdicts,
    }


def front_of(study: Any, examples: int | str | None = None) -> dict[str, Any]:
    """Return the confirmed points of a study as JSON-able data: their columns, and apart what these leave out."""
    found = study.confirmed(examples)
    columns = study.table("confirmed", examples=examples).to_pylist()
    return {"confirmed": columns, "details": [details(row) for row in found]}
