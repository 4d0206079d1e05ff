"""Whether a claim holds: intervals over seeds and images, and verdicts that are seldom wrong.

A claim is a tree of statements: `Bound`s on what was measured (`Mean`, `Difference`), and `Every` or `Some` of them.

    gain = Bound(Difference(ours, theirs), more_than=0.0)
    both = Every((Bound(Difference(ours, theirs), at_least=0.05), Bound(Difference(clean, dense), at_least=-0.003)))
    some = Some(tuple(Bound(Difference(level, dense), at_least=0.08) for level in levels))
    some.judged().verdict

Of claims that are false at most 2.5 % hold, and of those that are true at most 2.5 % do not. `Some` corrects for
looking at several (Bonferroni), so that the best of many levels is not judged by the numbers that made it the best.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, Protocol

import numpy as np
from scipy import stats

Verdict = Literal["holds", "does not", "cannot tell", "not tested"]
ERROR = 0.025
"""Of a false verdict, on either side."""
_ROUNDING = 1e-12
"""The part of the numbers themselves below which their differences are rounding."""


@dataclass(frozen=True)
class Interval:
    """A mean with its interval; `low` and `high` are None where it has none, as of a single seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int
    examples: int | None = None

    def text(self, scale: float = 1.0, digits: int = 1) -> str:
        """Write the interval as `mean [low, high]`, `scale` times as large."""

        def number(value: float) -> str:
            # Adding 0 to what is rounded makes no minus of it.
            return f"{round(value * scale, digits) + 0.0:.{digits}f}"

        if not math.isfinite(self.mean):
            return "unknown"
        if self.low is None or self.high is None:
            return f"{number(self.mean)} ({'one seed' if self.seeds == 1 else 'no spread'})"
        return f"{number(self.mean)} [{number(self.low)}, {number(self.high)}]"

    def size(self) -> str:
        """Write how many seeds were measured, with the number of images where they share them: `3`, or `3 x 1000`."""
        return str(self.seeds) if self.examples is None else f"{self.seeds} x {self.examples}"


def collapsed(clean: float, chance: float) -> bool:
    """Return whether an accuracy on clean images is that of a network which has learned nothing.

    That is at most twice that of predicting one class for all, and with few classes half of the way from there to 1.
    """
    return clean <= min(2 * chance, (1 + chance) / 2)


@dataclass(frozen=True)
class Arm:
    """What the networks of one arm measure, one per seed. Seeds, and images, are in the same order in all arms.

    `values`, shape (seeds,): any number. If it is an accuracy, `examples` is the number of its images, and `outcomes`,
    shape (seeds, examples) in [0, 1], says which were correct, if that is known. `chance` is the accuracy of predicting
    one class for all images; `collapsed` says that a training has failed, so that the arm says nothing of its method.
    """

    values: np.ndarray
    examples: int | None = None
    outcomes: np.ndarray | None = None
    chance: float | None = None
    collapsed: bool = False

    @classmethod
    def of(cls, values: Sequence[float], *, collapsed: bool = False) -> Arm:
        """Return an arm of numbers that are not accuracies."""
        return cls(np.asarray(values, dtype=np.float64), collapsed=collapsed)

    @classmethod
    def accuracy(
        cls,
        values: Sequence[float],
        examples: int,
        *,
        outcomes: np.ndarray | None = None,
        clean: Sequence[float] = (),
        chance: float | None = None,
    ) -> Arm:
        """Return an arm of accuracies; `clean` are those on clean images, which tell whether a training failed.

        Raises:
            ValueError: the outcomes have another mean than the values.
        """
        given = np.asarray(values, dtype=np.float64)
        if outcomes is not None and not np.allclose(np.asarray(outcomes).mean(axis=1), given, atol=1e-9):
            raise ValueError("the outcomes of the examples have other means than the accuracies")
        failed = chance is not None and any(collapsed(value, chance) for value in clean)
        return cls(given, examples, outcomes, chance, failed)


class Quantity(Protocol):
    """Something measured, about which a claim says how large it is."""

    def interval(self, among: int = 1) -> Interval:
        """Return its interval; of `among` such intervals, all hold together as surely as one alone."""
        ...

    def why_unknown(self) -> str:
        """Return why nothing can be told of it whatever the interval; empty if something can."""
        ...


@dataclass(frozen=True)
class Mean:
    """The mean of an arm over seeds and images."""

    arm: Arm

    def interval(self, among: int = 1) -> Interval:
        arm = self.arm
        if arm.outcomes is not None:
            found = _of_table(np.asarray(arm.outcomes, dtype=np.float64), (0.0, 1.0), among)
        else:
            found = _of_seeds(arm.values, _image_variance(arm.values, arm.examples), among, _size(arm.values))
        if arm.examples is None or found.low is None or found.high is None:
            return found
        return Interval(found.mean, max(found.low, 0.0), min(found.high, 1.0), found.seeds, arm.examples)

    def why_unknown(self) -> str:
        return "a training collapsed" if self.arm.collapsed else ""


@dataclass(frozen=True)
class Difference:
    """`ours` less `theirs`, seed by seed; with `relative`, as a share of theirs.

    Where both arms know the outcomes of their images, images are paired too. Where they do not, the images' part of the
    variance is that of arms measured on different images, which is too large rather than too small.
    """

    ours: Arm
    theirs: Arm
    relative: bool = False

    def interval(self, among: int = 1) -> Interval:
        ours, theirs = self.ours, self.theirs
        if len(ours.values) != len(theirs.values):
            raise ValueError(f"arms of {len(ours.values)} and {len(theirs.values)} seeds have no difference by seed")
        base, ratio = self._base()
        differences = (ours.values - ratio * theirs.values) / base
        shift = ratio - 1.0
        if self._paired:
            table = (np.asarray(ours.outcomes) - ratio * np.asarray(theirs.outcomes)) / base
            found = _of_table(table.astype(np.float64), (-1.0 / base, 1.0 / base), among)
        else:
            images = _image_variance(ours.values, ours.examples) + ratio**2 * _image_variance(
                theirs.values, theirs.examples
            )
            size = (_size(ours.values) + _size(ratio * theirs.values)) / abs(base)
            found = _of_seeds(differences, images / base**2, among, size)
        examples = ours.examples if ours.examples == theirs.examples else None
        most = 1.0 if examples is not None and not self.relative else math.inf  # Of two accuracies.
        low, high = (None if end is None else min(max(end + shift, -most), most) for end in (found.low, found.high))
        return Interval(float(differences.mean()) + shift, low, high, found.seeds, examples)

    def why_unknown(self) -> str:
        if self.ours.collapsed or self.theirs.collapsed:
            return "a training collapsed"
        if self._at_chance(self.ours) and self._at_chance(self.theirs):
            return "at chance"
        return "a share of 0" if self.relative and not self.theirs.values.any() else ""

    @property
    def _paired(self) -> bool:
        ours, theirs = self.ours.outcomes, self.theirs.outcomes
        return ours is not None and theirs is not None and np.shape(ours) == np.shape(theirs)

    def _base(self) -> tuple[float, float]:
        """Return what differences are divided by, and how much of theirs is subtracted from ours (delta method)."""
        if not self.relative:
            return 1.0, 1.0
        base = float(self.theirs.values.mean())
        return (base, float(self.ours.values.mean()) / base) if base else (math.nan, math.nan)

    @staticmethod
    def _at_chance(arm: Arm) -> bool:
        if arm.chance is None:
            return False
        low = Mean(arm).interval().low
        return bool(arm.values.mean() <= arm.chance) if low is None else low <= arm.chance


def _size(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


def _of_seeds(values: np.ndarray, images: float, among: int, size: float) -> Interval:
    """Return Student's interval over seeds, widened by the variance `images` that all seeds share.

    The squares of both halves add up (Howe 1974, doi:10.1080/01621459.1974.10480190), which is Student's interval where
    images do not matter. Without any spread there is no interval: equal seeds do not say how unequal they can be. What
    numbers of this `size` differ by in their last digits is no spread.
    """
    seeds, mean = len(values), float(np.mean(values))
    if seeds < 2 or not np.isfinite(values).all():
        return Interval(mean, None, None, seeds)
    students, normal = quantiles(among, seeds)
    over_seeds = students * float(np.std(values, ddof=1)) / math.sqrt(seeds)
    reach = math.hypot(over_seeds, normal * math.sqrt(images))
    if reach <= _ROUNDING * size:
        return Interval(mean, None, None, seeds)
    return Interval(mean, mean - reach, mean + reach, seeds)


@cache
def quantiles(among: int, seeds: int) -> tuple[float, float]:
    """Return the quantiles of Student's t, over two seeds or more, and of the normal distribution."""
    share = ERROR / among
    return float(stats.t.ppf(1 - share, seeds - 1)), float(stats.norm.ppf(1 - share))


def _of_table(table: np.ndarray, added: tuple[float, float], among: int) -> Interval:
    """Return the interval of the mean of a table, shape (seeds, images), both of which are samples.

    The variance is that of the bootstrap over both (Owen 2007, doi:10.1214/07-AOAS122), without the part that it counts
    twice; the bootstrap itself has no quantiles to speak of where seeds are few. Two images are `added`, one with each
    extreme, so that a table without a single difference is not taken for certain (Bonett and Price 2012,
    doi:10.3102/1076998611411915).
    """
    seeds, examples = table.shape
    plain = float(table.mean())
    if seeds < 2 or not np.isfinite(table).all():
        return Interval(plain, None, None, seeds, examples)
    table = np.hstack([table, np.tile(np.asarray(added), (seeds, 1))])
    images = table.shape[1]
    rows, columns, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    rest = table - rows[:, None] - columns + mean
    left = float((rest**2).sum()) / ((seeds - 1) * (images - 1)) / (seeds * images)
    shared = max(float(columns.var(ddof=1)) / images - left, 0.0)
    found = _of_seeds(rows, shared, among, _size(table))
    return Interval(plain, found.low, found.high, seeds, examples)


def _image_variance(values: np.ndarray, examples: int | None) -> float:
    """Return the variance of an accuracy from the drawing of its images, with one added on either side."""
    if examples is None:
        return 0.0
    share = (float(np.mean(values)) * examples + 1) / (examples + 2)
    return share * (1 - share) / (examples + 2)


@dataclass(frozen=True)
class Judgement:
    """A verdict, and why none can be given if so."""

    verdict: Verdict
    why: str = ""

    def text(self) -> str:
        return f"{self.verdict}: {self.why}" if self.why else self.verdict


class Statement(ABC):
    """Something that holds or does not."""

    @abstractmethod
    def judged(self, among: int = 1) -> Judgement:
        """Judge it; of `among` such judgements, all together are wrong as seldom as one alone."""


@dataclass(frozen=True)
class Untested(Statement):
    """A statement about something that was not measured."""

    def judged(self, among: int = 1) -> Judgement:
        return Judgement("not tested")


@dataclass(frozen=True)
class Bound(Statement):
    """That a quantity lies within bounds. Exactly 0 is not `more_than` 0, and not `less_than` 0."""

    quantity: Quantity
    at_least: float | None = None
    more_than: float | None = None
    at_most: float | None = None
    less_than: float | None = None

    def judged(self, among: int = 1) -> Judgement:
        if why := self.quantity.why_unknown():
            return Judgement("cannot tell", why)
        found = self.quantity.interval(among)
        if found.low is None or found.high is None:
            return Judgement("cannot tell", "one seed" if found.seeds == 1 else "no spread")
        if self._within(found.low) and self._within(found.high):
            return Judgement("holds")
        return Judgement("does not" if self._outside(found.low, found.high) else "cannot tell")

    def _within(self, value: float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.more_than is None or value > self.more_than)
            and (self.at_most is None or value <= self.at_most)
            and (self.less_than is None or value < self.less_than)
        )

    def _outside(self, low: float, high: float) -> bool:
        return bool(
            (self.at_least is not None and high < self.at_least)
            or (self.more_than is not None and high <= self.more_than)
            or (self.at_most is not None and low > self.at_most)
            or (self.less_than is not None and low >= self.less_than)
        )


@dataclass(frozen=True)
class _Several(Statement):
    parts: tuple[Statement, ...]

    def _any(self, verdict: Verdict, among: int) -> bool:
        """Return whether one part has a verdict, though one of many may have it by chance."""
        return any(part.judged(among * len(self.parts)).verdict == verdict for part in self.parts)

    @cached_property
    def _tested(self) -> bool:
        return bool(self.parts) and all(part.judged().verdict != "not tested" for part in self.parts)

    def _all(self, verdict: Verdict, among: int) -> bool:
        return bool(self.parts) and all(part.judged(among).verdict == verdict for part in self.parts)

    def _open(self) -> Judgement:
        if not self._tested:
            return Judgement("not tested")
        whys = {found.why for part in self.parts if (found := part.judged()).verdict == "cannot tell"}
        return Judgement("cannot tell", ", ".join(sorted(whys - {""})))


@dataclass(frozen=True)
class Every(_Several):
    """That all statements hold: it does not as soon as one does not."""

    def judged(self, among: int = 1) -> Judgement:
        if self._any("does not", among):
            return Judgement("does not")
        return Judgement("holds") if self._all("holds", among) else self._open()


@dataclass(frozen=True)
class Some(_Several):
    """That at least one statement holds, whichever it is: it does not if none does."""

    def judged(self, among: int = 1) -> Judgement:
        if self._any("holds", among):
            return Judgement("holds")
        return Judgement("does not") if self._all("does not", among) else self._open()
