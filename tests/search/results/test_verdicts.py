from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy import stats

from search.results.verdicts import Arm, Bound, Difference, Every, Interval, Mean, Some, Statement, Untested, collapsed

RUNS = 500
TOLERATED = 0.025 + 3 * math.sqrt(0.025 * 0.975 / RUNS)
"""A share of 2.5 % is rarely seen above this in so many runs."""
SIZES = [(3, 128), (3, 300), (6, 200)]
CHANCE = 0.1


def draws(seeds: int, examples: int, *shifts: float, seed: int = 0) -> Iterator[list[Arm]]:
    """Yield arms whose true accuracies differ from 40 % by the shifts.

    Images are harder or easier for all, and to another degree for each arm; seeds are better or worse.
    """
    random = np.random.default_rng(seed)
    for _ in range(RUNS):
        image = random.uniform(0.25, 0.55, examples)
        arms = []
        for shift in shifts:
            p = image + shift + random.choice([-0.1, 0.1], examples) + random.normal(0, 0.02, (seeds, 1))
            outcomes = random.random((seeds, examples), dtype=np.float32) < p
            arms.append(Arm.accuracy(outcomes.mean(axis=1).tolist(), examples, outcomes=outcomes))
        yield arms


def shares(arms: Iterator[list[Arm]], claim: Callable[..., Statement]) -> tuple[float, float]:
    """Return how often a claim holds, and how often it does not."""
    verdicts = [claim(*each).judged().verdict for each in arms]
    return verdicts.count("holds") / len(verdicts), verdicts.count("does not") / len(verdicts)


@pytest.mark.parametrize(("seeds", "examples"), SIZES)
@pytest.mark.parametrize("margin", [0.0, 0.05, -0.01], ids=["gains", "gains with margin", "is not worse"])
def test_of_claims_at_their_margin_few_are_judged(seeds: int, examples: int, margin: float) -> None:
    holds, not_ = shares(
        draws(seeds, examples, margin, 0.0),
        lambda ours, theirs: Bound(Difference(ours, theirs), at_least=margin),
    )
    assert max(holds, not_) <= TOLERATED


def test_without_outcomes_of_images_even_fewer_are_judged() -> None:
    def claim(ours: Arm, theirs: Arm) -> Statement:
        blind = [Arm.accuracy(arm.values.tolist(), 128) for arm in (ours, theirs)]
        return Bound(Difference(*blind), more_than=0.0)

    assert max(shares(draws(3, 128, 0.0, 0.0), claim)) <= 0.005


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "examples"), SIZES[:2])
def test_the_best_of_equal_levels_seldom_gains(seeds: int, examples: int) -> None:
    def claim(dense: Arm, *levels: Arm) -> Statement:
        return Some(tuple(Bound(Difference(level, dense), more_than=0.0) for level in levels))

    assert shares(draws(seeds, examples, *[0.0] * 6), claim)[0] <= TOLERATED


def test_judging_the_highest_mean_by_its_own_numbers_would_not_do() -> None:
    def naive(dense: Arm, *levels: Arm) -> Statement:
        return Bound(Difference(max(levels, key=lambda arm: float(arm.values.mean())), dense), more_than=0.0)

    assert shares(draws(3, 128, *[0.0] * 6), naive)[0] > TOLERATED


@pytest.mark.slow
def test_a_gain_whose_condition_fails_seldom_holds() -> None:
    """The gain is real; the other measure is at its bound."""

    def claim(ours: Arm, theirs: Arm, ours_clean: Arm, theirs_clean: Arm) -> Statement:
        gain = Bound(Difference(ours, theirs), more_than=0.0)
        return Some((Every((gain, Bound(Difference(ours_clean, theirs_clean), at_least=-0.03))),))

    assert shares(draws(3, 128, 0.3, 0.0, -0.03, 0.0), claim)[0] <= TOLERATED


@pytest.mark.slow
def test_that_no_level_gains_is_seldom_said_of_one_that_does_nor_denied_where_none_does() -> None:
    def claim(dense: Arm, *levels: Arm) -> Statement:
        return Every(tuple(Bound(Difference(level, dense), at_most=0.01) for level in levels))

    assert shares(draws(3, 128, 0.0, 0.01, -0.3, -0.3), claim)[0] <= TOLERATED
    assert shares(draws(3, 128, 0.0, 0.01, 0.01, 0.01), claim)[1] <= TOLERATED


def test_numbers_that_are_no_accuracies_are_judged_over_seeds() -> None:
    random = np.random.default_rng(0)
    arms = ([Arm.of(random.normal(1.0, 0.2, 3).tolist()) for _ in range(2)] for _ in range(RUNS))
    holds, not_ = shares(arms, lambda ours, theirs: Bound(Difference(ours, theirs), more_than=0.0))
    assert max(holds, not_) <= TOLERATED


@pytest.mark.slow
def test_a_clear_gain_is_seen() -> None:
    """Else nothing above would say anything."""
    holds, not_ = shares(draws(6, 300, 0.1, 0.0), lambda ours, theirs: Bound(Difference(ours, theirs), at_least=0.02))
    assert holds > 0.5
    assert not_ == 0
    best = shares(
        draws(6, 300, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0),
        lambda dense, *levels: Some(tuple(Bound(Difference(level, dense), more_than=0.0) for level in levels)),
    )
    assert best[0] > 0.5


def test_over_seeds_the_interval_is_students() -> None:
    found = Mean(Arm.of([1.0, 2.0, 3.0])).interval()
    # t of two degrees of freedom at 97.5 % is 4.3027; the standard error is 1 / sqrt(3).
    assert found.mean == 2
    assert (found.low, found.high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    wider = Mean(Arm.of([1.0, 2.0, 3.0])).interval(among=5)
    assert wider.high == pytest.approx(2 + stats.t.ppf(0.995, 2) / 3**0.5)


def test_over_images_alone_it_is_that_of_paired_proportions() -> None:
    """Bonett and Price: ((b + 1) - (c + 1)) / (n + 2) with the variance of the three kinds of pairs."""
    ours = np.tile([True] * 30 + [False] * 70, (2, 1))
    theirs = np.tile([False] * 20 + [True] * 20 + [False] * 60, (2, 1))  # 20 gained, 10 lost
    arms = [Arm.accuracy(each.mean(axis=1).tolist(), 100, outcomes=each) for each in (ours, theirs)]
    found = Difference(*arms).interval()
    gained, lost = 21 / 102, 11 / 102
    centre, variance = gained - lost, gained + lost - (gained - lost) ** 2
    reach = 1.959964 * math.sqrt(variance / 102)
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((centre - reach, centre + reach), abs=0.001)


def test_the_variance_is_that_of_the_bootstrap_over_seeds_and_images() -> None:
    """Owen: the bootstrap counts the part of a seed and an image three times, the interval once."""
    random = np.random.default_rng(1)
    seeds, examples = 12, 60
    table = random.normal(0, 0.5, (seeds, 1)) + random.normal(0, 1.0, examples) + random.normal(0, 1, (seeds, examples))
    drawn = [
        table[random.integers(seeds, size=seeds)][:, random.integers(examples, size=examples)].mean()
        for _ in range(6000)
    ]
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    once = (rest**2).sum() / ((seeds - 1) * (examples - 1)) / (seeds * examples)
    found = Mean(Arm(table.mean(axis=1), outcomes=table)).interval()
    assert found.low is not None
    assert found.high is not None
    images = max(table.mean(axis=0).var(ddof=1) / examples - once, 0)
    rows = table.mean(axis=1).var(ddof=1) / seeds
    assert np.var(drawn) == pytest.approx(rows + images + once, rel=0.15)
    reach = math.hypot(stats.t.ppf(0.975, seeds - 1) * rows**0.5, 1.959964 * images**0.5)
    # Of 62 images two are added, without any difference between seeds.
    assert (found.high - found.low) / 2 == pytest.approx(reach * 60 / 62, rel=0.05)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_equal_networks_gain_nothing_and_images_without_a_difference_are_not_certain(accuracy: float) -> None:
    outcomes = np.full((3, 100), bool(accuracy))
    arm = Arm.accuracy([accuracy] * 3, 100, outcomes=outcomes)
    found = Difference(arm, arm).interval()
    assert found.mean == 0
    # The rule of three: none of 100 allows up to 3 %, either way.
    assert (found.low, found.high) == pytest.approx((-0.03, 0.03), abs=0.004)
    assert Bound(Difference(arm, arm), more_than=0.0).judged().verdict == "cannot tell"
    assert Bound(Difference(arm, arm), at_least=0.0).judged().verdict == "cannot tell"
    assert Bound(Difference(arm, arm), at_least=-0.05).judged().verdict == "holds"
    unpaired = Arm.accuracy([accuracy] * 3, 100)
    assert Bound(Difference(unpaired, unpaired), more_than=0.0).judged().verdict == "cannot tell"


def test_an_interval_that_only_touches_zero_is_no_gain() -> None:
    class Fixed:
        def interval(self, among: int = 1) -> Interval:
            return Interval(0.0, 0.0, 0.0, 3)

        def why_unknown(self) -> str:
            return ""

    assert Bound(Fixed(), more_than=0.0).judged().verdict == "does not"
    assert Bound(Fixed(), less_than=0.0).judged().verdict == "does not"
    assert Bound(Fixed(), at_least=0.0, at_most=0.0).judged().verdict == "holds"


def test_one_seed_and_equal_seeds_allow_no_verdict() -> None:
    one = Bound(Difference(Arm.of([3.0]), Arm.of([1.0])), more_than=0.0).judged()
    assert one.text() == "cannot tell: one seed"
    equal = Bound(Difference(Arm.of([3.0] * 3), Arm.of([1.0] * 3)), more_than=0.0).judged()
    assert equal.text() == "cannot tell: no spread"
    # Means of equal numbers, and equal differences of unequal ones, differ in their last digits.
    rounded = Bound(Mean(Arm.of([0.7] * 3)), at_least=0.6).judged()
    assert rounded.text() == "cannot tell: no spread"
    shifted = Bound(Difference(Arm.of([0.4, 0.5, 0.6]), Arm.of([0.1, 0.2, 0.3])), more_than=0.2).judged()
    assert shifted.text() == "cannot tell: no spread"
    small = Bound(Difference(Arm.of([1.0, 1.0 + 1e-6]), Arm.of([1.0, 1.0])), less_than=1.0).judged()
    assert small.verdict == "holds"
    missing = Bound(Mean(Arm.of([1.0, math.nan, 1.1])), at_least=0.0).judged()
    assert missing.verdict == "cannot tell"


def test_networks_at_chance_and_collapsed_ones_allow_no_verdict() -> None:
    good = {"clean": [0.9, 0.95, 0.92], "chance": CHANCE}
    low = Arm.accuracy([0.02, 0.03, 0.01], 1000, **good)
    lower = Arm.accuracy([0.001, 0.002, 0.0], 1000, **good)
    high = Arm.accuracy([0.6, 0.62, 0.61], 1000, **good)
    failed = Arm.accuracy([0.1, 0.12, 0.11], 1000, clean=[0.9, 0.11, 0.9], chance=CHANCE)
    assert Bound(Difference(low, lower), more_than=0.0).judged().text() == "cannot tell: at chance"
    assert Bound(Difference(low, lower), at_least=-0.1).judged().text() == "cannot tell: at chance"
    assert Bound(Difference(high, low), more_than=0.0).judged().verdict == "holds"
    assert Bound(Difference(low, high), more_than=0.0).judged().verdict == "does not"
    assert Bound(Difference(failed, high), more_than=0.0).judged().text() == "cannot tell: a training collapsed"
    assert Bound(Mean(low), at_most=0.12).judged().verdict == "holds"


@pytest.mark.parametrize(
    ("clean", "chance", "said"), [(0.19, 0.1, True), (0.21, 0.1, False), (0.7, 0.5, True), (0.99, 0.5, False)]
)
def test_a_network_has_collapsed_that_is_near_chance(clean: float, chance: float, said: bool) -> None:
    assert collapsed(clean, chance) is said


def test_a_relative_change_is_a_share_of_theirs() -> None:
    ours, theirs = Arm.of([2.2, 2.0, 2.1]), Arm.of([2.0, 2.0, 2.0])
    found = Difference(ours, theirs, relative=True).interval()
    absolute = Difference(ours, theirs).interval()
    assert found.mean == pytest.approx(0.05)
    assert found.low is not None
    assert absolute.low is not None
    assert found.low == pytest.approx(absolute.low / 2)
    nothing = Difference(ours, Arm.of([0.0, 0.0, 0.0]), relative=True)
    assert Bound(nothing, more_than=0.0).judged().text() == "cannot tell: a share of 0"


def test_an_accuracy_lies_between_0_and_1_and_a_difference_within_1() -> None:
    ours, theirs = Arm.accuracy([0.1, 0.9], 100), Arm.accuracy([0.9, 0.1], 100)
    assert (Mean(ours).interval().low, Mean(ours).interval().high) == (0.0, 1.0)
    found = Difference(ours, theirs).interval()
    assert (found.low, found.high) == (-1.0, 1.0)


def test_arms_are_checked() -> None:
    with pytest.raises(ValueError, match="other means"):
        Arm.accuracy([0.5, 0.5], 4, outcomes=np.ones((2, 4)))
    with pytest.raises(ValueError, match="2 and 3 seeds"):
        Difference(Arm.of([1.0, 2.0]), Arm.of([1.0, 2.0, 3.0])).interval()


def test_statements_of_several() -> None:
    up, down = Arm.of([3.0, 3.1, 3.05]), Arm.of([1.0, 1.1, 1.05])
    yes, no = Bound(Mean(up), at_least=2.0), Bound(Mean(down), at_least=2.0)
    open_ = Bound(Mean(Arm.of([2.0])), at_least=2.0)

    def verdict(statement: Statement) -> str:
        return statement.judged().verdict

    assert verdict(Every((yes, yes))) == verdict(Some((yes, no))) == verdict(Some((yes, Untested()))) == "holds"
    assert verdict(Every((yes, no))) == verdict(Every((no, Untested()))) == verdict(Some((no, no))) == "does not"
    assert verdict(Every((yes, open_))) == verdict(Some((no, open_))) == "cannot tell"
    assert verdict(Every((yes, Untested()))) == verdict(Some(())) == verdict(Every(())) == "not tested"
    assert Every((yes, open_)).judged().why == "one seed"
    # Judged with many others, a part needs a clearer difference.
    slight = Bound(Mean(Arm.of([2.2, 2.25, 2.3])), at_least=2.0)
    assert verdict(Some((slight,))) == "holds"
    assert verdict(Some((slight, no, no, no, no))) == "cannot tell"


def test_intervals_are_written_with_their_size() -> None:
    assert Interval(0.1, 0.09, 0.11, 3, 1000).text(100) == "10.0 [9.0, 11.0]"
    assert Interval(0.1, 0.09, 0.11, 3, 1000).size() == "3 x 1000"
    assert Interval(-0.0001, None, None, 1).text(100) == "0.0 (one seed)"
    assert Interval(1.0, None, None, 3).text() == "1.0 (no spread)"
    assert Interval(math.nan, None, None, 3).text() == "unknown"
