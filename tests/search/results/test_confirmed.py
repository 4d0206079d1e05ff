from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.results.bootstrap import DRAWS
from search.results.confirmed import Accuracy, ConfirmedRow, Network, rows, sets
from search.results.exporters.base import readable
from search.results.study import Study
from search.results.table import columns, point_rows
from tests.search import factories
from tests.search.confirmations import EXAMPLES, PLANNED, attack, confirm, confirmation, make_confirmed_study, network
from trainables.metrics import wilson

YES, NO = True, False


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_confirmed_study(tmp_path_factory.mktemp("confirmed") / "synthetic")


def test_worst_is_taken_per_example_over_the_attacks_of_at_most_the_radius() -> None:
    clean = confirmation([YES, YES, YES, YES, NO])
    first = attack("one", [YES, NO, YES, YES, NO], [YES, YES, YES, YES, NO])
    second = attack("two", [YES, NO, NO, YES, NO], [YES, NO, YES, YES, NO])
    weaker = attack("weak", [NO, YES, YES, YES, NO], [YES, YES, YES, YES, NO], "0.05")
    stronger = attack("strong", [NO, NO, NO, NO, NO], [YES, YES, YES, YES, NO], "0.2")
    found = Network([clean, first, second, weaker, stronger])
    assert found.accuracy(0.0) == Accuracy.of(4, 5)
    assert found.accuracy(0.05) == Accuracy.of(3, 5), "only the weak attack is within the radius"
    assert found.accuracy(0.1) == Accuracy.of(1, 5), "not 2, the least of the attacks: each breaks another example"
    assert found.accuracy(0.2) == Accuracy.of(0, 5)
    assert [(point.eps, point.accuracy.correct) for point in found.curve()] == [(0.0, 4), (0.05, 3), (0.1, 1), (0.2, 0)]


def test_distances_break_at_every_radius_that_they_reach() -> None:
    clean = confirmation([YES, YES, YES, YES])
    minimal = attack("fmn", [YES, NO, YES, YES], [YES] * 4, distances=(0.3, 0.05, 0.1000000001, None))
    found = Network([clean, minimal])
    counts = {eps: found.accuracy(eps).correct for eps in (0.04, 0.05, 0.1, 0.29, 0.3, 9.0)}
    assert counts == {0.04: 4, 0.05: 3, 0.1: 2, 0.29: 2, 0.3: 1, 9.0: 1}


def test_of_several_attacks_with_the_noise_off_the_worst_counts_and_none_of_them_with_it_on() -> None:
    clean = confirmation([YES, YES, YES, YES])
    assert Network([clean]).noise_off is None
    weak = confirmation([YES, YES, NO, YES], attack="noise-off-pgd", role="noise_off", eps=0.1)
    strong = confirmation([NO, YES, YES, NO], attack="noise-off", role="noise_off", eps=0.1)
    assert Network([clean, weak]).noise_off == 0.75
    assert Network([clean, weak, strong]).noise_off == Network([clean, strong, weak]).noise_off == 0.25
    assert Network([clean, weak, strong]).accuracy(0.1) == Accuracy.of(4, 4)


def test_rows_hold_what_was_measured_and_what_fell(study: Study) -> None:
    front = {row.point: row for row in study.front()}
    found = study.confirmed()
    assert [row.point for row in found] == [row.point for row in sorted(front.values(), key=lambda r: r.sparsity)]
    for row in found:
        searched = front[row.point]
        results = network(searched)
        stands = [int(bit) for bit in np.unpackbits(np.frombuffer(bytes.fromhex(row.verdicts), dtype=np.uint8))]
        assert row.robust_accuracy == sum(stands) / EXAMPLES == Network(results).accuracy(0.1).value
        assert (row.robust_accuracy_low, row.robust_accuracy_high) == wilson(sum(stands), EXAMPLES)
        assert row.drop == searched.robust_accuracy - row.robust_accuracy
        assert (row.estimate, row.estimate_examples) == (searched.robust_accuracy, factories.EXAMPLES)
        assert (row.seeds, row.complete, row.tier, row.split) == (3, True, "confirmed", "test")
        means = [each.robust.value for each in row.replicates]
        assert row.robust_accuracy_mean == pytest.approx(np.mean(means))
        assert row.robust_accuracy_sd == pytest.approx(np.std(means, ddof=1))
        assert [each.seed for each in row.replicates] == [0, 1, 2]
        assert row.attack == "AUTOATTACK + FMN + SQUARE + TRANSFER-DENSE"


def test_a_network_that_no_attack_has_seen_is_not_listed(study: Study) -> None:
    first, second, third = study.front()[:3]
    sweep = [result for result in network(second) if result.role == "clean"]
    sweep.append(sweep[0].model_copy(update={"attack": "sweep-0.5", "role": "attack", "eps": 0.05, "eps_text": "0.05"}))
    seen = [result for result in network(third) if result.role == "clean" or result.attack == "autoattack"]
    results = [network(first)[0], *sweep, *seen]
    assert results[0].role == "clean"
    (row,) = rows(study.spec, study.points(), results)
    assert (row.point, row.complete, row.attack) == (third.point, False, "AUTOATTACK")


def test_front_and_ranks_are_those_of_the_means(study: Study) -> None:
    found = study.confirmed()
    for row in found:
        better = [
            other.robust_accuracy_mean >= row.robust_accuracy_mean and other.sparsity > row.sparsity for other in found
        ]
        assert row.on_front != any(better)
        assert row.on_search_front
        assert row.rank == 1 + sum(other.robust_accuracy_mean > row.robust_accuracy_mean for other in found)
        assert row.rank_estimate == 1 + sum(other.estimate > row.estimate for other in found)
        assert row.p_nondominated is not None
        assert 0 <= row.p_nondominated <= 1
    assert any(row.rank != row.rank_estimate for row in found)
    assert [row.point for row in study.confirmed_front()] == [row.point for row in found if row.on_front]
    assert 0 < len(study.confirmed_front()) < len(found)


def test_a_point_without_all_attacks_is_shown_and_not_compared(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "synthetic", 12)
    first, *others = Study(records).front()
    confirm(records, seeds=1, points=others)
    assert [row.point for row in Study(records).confirmed()] == [row.point for row in others]
    from trainables.store import confirmations

    for result in network(first)[:2]:
        confirmations.write(records.storage, result)
    begun = Study(records).confirmed()[0]
    assert (begun.point, begun.complete, begun.on_front) == (first.point, False, False)
    assert (begun.p_nondominated, begun.rank, begun.robust_accuracy_sd) == (None, None, None)
    assert {result.attack for result in network(first)} == set(PLANNED)


def test_a_second_plan_that_is_not_done_leaves_the_first_complete() -> None:
    clean = confirmation([YES, NO], planned=("clean", "one"))
    first = attack("one", [YES, NO], [YES, NO], planned=("clean", "one"))
    second = attack("two", [NO, NO], [YES, NO], planned=("clean", "one", "two", "three"))
    assert not Network([clean, second]).complete
    assert Network([clean, first, second]).complete
    assert Network([clean, first, second]).accuracy(0.1).correct == 0, "what is there counts all the same"


def test_results_on_other_examples_do_not_mix(tmp_path: Path) -> None:
    records = factories.make_study(tmp_path / "synthetic", 12)
    confirm(records, seeds=1, limit=50)
    assert {row.examples for row in Study(records).confirmed()} == {50}
    assert Study(records).confirmed("all") == []
    confirm(records, seeds=2)
    assert {(row.examples, row.seeds) for row in Study(records).confirmed()} == {(EXAMPLES, 2)}
    assert {(row.examples, row.seeds, row.limit) for row in Study(records).confirmed(50)} == {(50, 1, 50)}
    assert {row.examples for row in Study(records).confirmed("all")} == {EXAMPLES}


def test_sets_are_named_and_the_largest_is_the_last() -> None:
    results = [confirmation([YES] * 3, limit=limit) for limit in (500, None, 60)]
    assert sets(results) == ["first-60", "first-500", "all"]
    assert rows(factories.study_spec(), [], results) == []


def test_a_study_without_confirmations_has_no_row_and_the_same_columns(tmp_path: Path, study: Study) -> None:
    empty = Study(factories.make_study(tmp_path / "synthetic", 3))
    assert empty.confirmed() == []
    assert empty.table("confirmed").schema == study.table("confirmed").schema
    assert empty.table("confirmed").num_rows == 0


def test_columns_are_values_and_json_able(study: Study) -> None:
    table = study.table("confirmed")
    assert [field.name for field in columns(ConfirmedRow)] == table.schema.names[:-3]
    assert {"params", "measured", "attacks", "curve", "corruptions", "replicates"}.isdisjoint(table.schema.names)
    assert json.loads(json.dumps(table.to_pylist(), allow_nan=False))[0]["point"] == study.confirmed()[0].point


def stored(study: Study) -> dict[str, dict[int, dict[str, Any]]]:
    """Return clean and robust verdicts (examples,) and the sparsity by point and seed, as numpy reads the files."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in Path(study.records.storage.location).glob("confirm/*/*/*.json"):
        result = json.loads(path.read_text())
        one = found.setdefault(result["point"], {}).setdefault(result["seed"], {"broken": np.zeros(EXAMPLES, bool)})
        attacked, correct = (
            np.unpackbits(np.array([int(pair, 16) for pair in textwrap.wrap(result[name], 2)], np.uint8))[:EXAMPLES] > 0
            for name in ("attacked", "correct")
        )
        if result["attack"] == "clean":
            one.update(clean=correct, sparsity=1 - result["nonzero"] / result["prunable"])
        elif result["distances"] is not None:
            one["broken"] |= np.array(result["distances"]) <= 0.1
        elif result["eps"] <= 0.1:
            one["broken"] |= attacked & ~correct
    return found


def interval(correct: int) -> list[float]:
    """Return the two true shares p whose distance to the observed share is 1.96 times sqrt(p (1 - p) / n)."""
    share, z2 = correct / EXAMPLES, 1.959963984540054**2 / EXAMPLES
    return sorted(np.roots([1 + z2, -(2 * share + z2), share**2]).real)


def test_the_table_agrees_with_numpy_on_the_stored_verdicts(study: Study) -> None:
    """Nothing of the project is used but the files: the worst per example, means, intervals, what fell, the front."""
    networks, estimates = stored(study), {row.point: row for row in study.front()}
    table = study.table("confirmed").to_pylist()
    assert len(table) == len(networks) >= 4
    robust = {p: np.array([one["clean"] & ~one["broken"] for _, one in sorted(networks[p].items())]) for p in networks}
    for row in table:
        own = robust[row["point"]]
        shares = own.mean(axis=1)
        clean = [one["clean"].mean() for one in networks[row["point"]].values()]
        assert row["robust_accuracy"] == shares[0]
        assert row["robust_accuracy_mean"] == pytest.approx(shares.mean())
        assert row["robust_accuracy_sd"] == pytest.approx(shares.std(ddof=1))
        assert (row["clean_accuracy_mean"], row["clean_accuracy_sd"]) == pytest.approx(
            (np.mean(clean), np.std(clean, ddof=1))
        )
        found = [row["robust_accuracy_low"], row["robust_accuracy_high"]]
        assert found == pytest.approx(interval(int(own[0].sum())), abs=1e-9)
        searched = estimates[row["point"]]
        assert row["drop"] == pytest.approx(searched.measured.robust_correct / factories.EXAMPLES - shares[0])
        assert row["rank"] == 1 + sum(other.mean() > own.mean() for other in robust.values())


@pytest.mark.slow
def test_the_probability_of_being_non_dominated_agrees_with_a_bootstrap_of_its_own(study: Study) -> None:
    """Another generator, more draws, and dominance written out: equal within the error of two Monte Carlo estimates."""
    networks, draws = stored(study), 4000
    random = np.random.default_rng(20)
    points = sorted(networks)
    seeds = np.array([len(networks[p]) for p in points])
    counts = np.zeros(len(points))
    ties = [p for p in points if networks[p][0]["sparsity"] == networks[points[0]][0]["sparsity"]]
    assert ties == points[:1], "no two points are equally sparse"
    for _ in range(draws):
        examples = random.integers(EXAMPLES, size=EXAMPLES)
        drawn = []
        for p, n in zip(points, seeds, strict=True):
            chosen = [networks[p][seed] for seed in random.integers(n, size=n)]
            robust = np.mean([(one["clean"] & ~one["broken"])[examples].mean() for one in chosen])
            clean = np.mean([one["clean"][examples].mean() for one in chosen])
            drawn.append((robust, chosen[0]["sparsity"], clean >= 0.75))
        for at, (robust, sparsity, feasible) in enumerate(drawn):
            beaten = [fits and r >= robust and s >= sparsity and (r > robust or s > sparsity) for r, s, fits in drawn]
            counts[at] += feasible and not any(beaten)
    shares = counts / draws
    error = np.sqrt(np.maximum(shares * (1 - shares), 0.25 / draws) * (1 / draws + 1 / DRAWS))
    found = {row["point"]: row["p_nondominated"] for row in study.table("confirmed").to_pylist()}
    assert np.all(np.abs(np.array([found[p] for p in points]) - shares) <= 4 * error)
    assert np.any((shares > 0.05) & (shares < 0.95)), "some point is not sure"


def test_replicates_are_one_row_with_the_networks_of_all_seeds() -> None:
    spec = factories.study_spec(seeds=[4, 7])
    trials: list[Any] = []
    # The second configuration measures the networks of the first on its way.
    for number, (seed, robust) in enumerate(((4, 0.6), (7, 0.7)) * 2):
        own = number // 2
        issued = factories.trial(number, spec, configuration=own, seed=seed, params=factories.params(own))
        trials.append((issued, factories.outcome(number, [factories.point(0, robust_accuracy=robust)])))
    points = point_rows(spec, trials)
    results = []
    for row, right in zip(points[:2], (6, 8), strict=True):
        own = {"point": row.point, "seed": row.seed, "weights_sha256": row.weights_sha256, "planned": ("clean", "one")}
        correct, stands = [YES] * right + [NO] * (10 - right), [YES] * (right - 1) + [NO] * (11 - right)
        results += [confirmation(correct, **own), attack("one", stands, correct, **own)]
    (found,) = rows(spec, points, results)
    assert (found.point, found.seeds, [each.seed for each in found.replicates]) == ("t0.0", 2, [4, 7])
    assert found.clean_accuracy_mean == pytest.approx(0.7)
    assert found.clean_accuracy_sd == pytest.approx(np.std([0.6, 0.8], ddof=1))
    assert found.robust_accuracy_mean == pytest.approx(0.6)


def test_replicates_are_one_confirmed_point_which_is_ranked_and_flagged_for_all(tmp_path: Path) -> None:
    spec = factories.study_spec(name="seeds", seeds=[1, 2], constraints={})
    records = factories.make_study(tmp_path / "seeds", 0, spec)
    # Of the first networks the first is better, of the means the second.
    for number, robust in enumerate((0.8, 0.4, 0.7, 0.7)):
        configuration, seed = divmod(number, 2)
        own = {"configuration": configuration, "seed": spec.seeds[seed], "params": factories.params(configuration)}
        records.issue(factories.trial(number, spec, **own))
        flagged = {"flags": ("softmax_output",)} if number == 3 else {}
        measured = factories.point(0, robust_accuracy=robust, sparsity=0.5 - configuration / 10, **flagged)
        records.write_outcome(factories.outcome(number, [measured]))
    confirm(records, seeds=1, points=Study(records).points())
    study = Study(records)
    assert [(row.point, row.rank_estimate) for row in study.confirmed()] == [("t2.0", 1), ("t0.0", 2)]
    assert [row.flags for row in study.confirmed()] == [("softmax_output",), ()]
    assert study.confirmed_points() == len(study.confirmed()) == 2
    assert readable(study.table("trials"), what="trials", study="seeds").headings[:2] == ("trial", "seed")
