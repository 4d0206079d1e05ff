"""Replicates: the trials of one configuration, one per seed, which are one trial for the sampler."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from search.launch.ask_tell import Sampling
from search.launch.stopping import ENQUEUED
from search.space.parameters import Params, identity
from search.study.spec import StudySpec
from trainables.store.records import State, TrialRecord

Judged = tuple[list[float], list[float]]
"""Objective values and violations."""


@dataclass
class _Configuration:
    """What is known of a configuration: its parameters, its replicates, and what these have measured."""

    params: Params
    sampler: dict[str, Any]
    issued: set[int] = field(default_factory=set)
    ended: dict[int, tuple[State, Judged | None]] = field(default_factory=dict)
    on_the_way: dict[tuple[Any, ...], tuple[Params, list[Judged]]] = field(default_factory=dict)


class Replicates:
    """The sampling of a study whose configurations have a trial per seed.

    The sampler learns of a configuration when its last replicate has ended: means over the replicates, of each point on
    the way as of the last. Those that failed are left out; where one was stopped, the configuration counts as stopped,
    and only the points on the way that it has measured too.
    A study without `seeds` has one trial per configuration, of which the sampler learns at once.
    """

    def __init__(self, spec: StudySpec, sampling: Sampling) -> None:
        """Start without a configuration."""
        self._seeds = spec.seeds
        self._sampling = sampling
        self._known: dict[int, _Configuration] = {}

    def ask(self, number: int, given: Params | None) -> tuple[dict[str, Any], bool]:
        """Return what the record of a new trial says of params, seed, sampler and configuration.

        The second result is whether it begins a configuration: only then the parameters are `given` or suggested.
        """
        if not self._seeds:
            params, sampler = self._begin(number, given)
            return {"params": params, "sampler": sampler}, True
        at, seed = self._next()
        begins = at not in self._known
        if begins:
            self._known[at] = _Configuration(*self._begin(at, given))
        known = self._known[at]
        known.issued.add(seed)
        return {"params": known.params, "sampler": known.sampler, "seed": seed, "configuration": at}, begins

    def adopt(self, record: TrialRecord) -> None:
        """Add a trial that was issued before, by this process or an earlier one, as running."""
        if (at := self._of(record)) is None:
            self._sampling.adopt(record.number, record.params, record.sampler)
            return
        if at not in self._known:
            self._known[at] = _Configuration(record.params, record.sampler)
            self._sampling.adopt(at, record.params, record.sampler)
        self._known[at].issued.add(record.seed)

    def add_observation(self, record: TrialRecord, params: Params, judged: Judged | None) -> None:
        """Add a point that was measured on the way of a trial, as if it were a trial with `params`."""
        if (at := self._of(record)) is None:
            self._sampling.add_observation(record.number, params, *(judged or (None, [])))
        elif judged is not None:
            self._known[at].on_the_way.setdefault(identity(params), (params, []))[1].append(judged)

    def tell(self, record: TrialRecord, state: State, judged: Judged | None) -> None:
        """End a trial; without values a complete one counts as failed."""
        if (at := self._of(record)) is None:
            self._sampling.tell(record.number, state, *(judged or (None, [])))
            return
        known = self._known[at]
        known.ended[record.seed] = ("failed" if state == "complete" and judged is None else state), judged
        if not set(self._seeds) <= known.ended.keys():
            return
        states = {state for state, _ in known.ended.values()}
        # Later points are those of the better replicates alone.
        least = sum(state != "failed" for state, _ in known.ended.values()) if "stopped" in states else 1
        for params, each in known.on_the_way.values():
            if len(each) >= least:
                self._sampling.add_observation(at, params, *_mean(each))
        counts = next(state for state in ("stopped", "complete", "failed") if state in states)
        each = [judged for state, judged in known.ended.values() if judged is not None and state != "failed"]
        self._sampling.tell(at, counts, *(_mean(each) if each else (None, [])))

    def _begin(self, number: int, given: Params | None) -> tuple[Params, dict[str, Any]]:
        params, sampler = self._sampling.ask(number, given)
        return params, sampler if given is None else {**sampler, ENQUEUED: True}

    def _next(self) -> tuple[int, int]:
        """Return the first configuration and seed without a trial."""
        return next(
            (at, seed)
            for at in itertools.count()
            for seed in self._seeds
            if at not in self._known or seed not in self._known[at].issued
        )

    def _of(self, record: TrialRecord) -> int | None:
        return record.configuration if self._seeds else None


def _mean(each: Sequence[Judged]) -> Judged:
    values, violations = (
        [statistics.fmean(column) for column in zip(*rows, strict=True)] for rows in zip(*each, strict=True)
    )
    return values, violations
