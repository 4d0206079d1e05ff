from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from search.results.compare.comparison import SURFACES, Comparison, compare
from search.results.compare.groups import Group
from search.results.compare.plot import draw
from search.results.study import Study
from tests.search import factories
from tests.search.confirmations import confirm, hexed
from tests.search.results.compare.made import Given, made, standing
from trainables.core.errors import SpecError


def alone(*studies: Study) -> list[Group]:
    return [Group(study.name, (study,)) for study in studies]


def compared(root: Path, **points: list[Given]) -> Comparison:
    return compare(alone(*(made(root, name, given) for name, given in points.items())))


def test_hypervolume_and_front_are_those_of_the_study(tmp_path: Path) -> None:
    studies = [Study(factories.make_study(tmp_path / name, 12, factories.study_spec(name=name))) for name in "ab"]
    first, second = compare(alone(*studies)).groups
    assert first.hypervolume.value == pytest.approx(studies[0].hypervolume())
    assert first.runs[0].front == tuple(row.point for row in studies[0].front())
    assert first.hypervolume.low < first.hypervolume.value < first.hypervolume.high
    assert first.hypervolume == second.hypervolume


def test_equal_studies_differ_by_nothing_at_all(tmp_path: Path) -> None:
    """Networks with the same verdicts have the same resamples: differences are paired."""
    points = [(0.5, standing(150)), (0.9, standing(100))]
    (pair,) = compared(tmp_path, a=points, b=points).pairs
    assert (pair.hypervolume.low, pair.hypervolume.value, pair.hypervolume.high) == (0, 0, 0)
    assert (pair.covers, pair.covered, pair.epsilon, pair.epsilon_reverse) == (1, 1, 0, 0)
    assert {each.ahead for each in pair.ranges} == {None}
    assert all(each.difference is not None and each.difference.high == 0 for each in pair.ranges)


def test_interval_of_one_point_is_that_of_the_binomial(tmp_path: Path) -> None:
    """Of a single point, the hypervolume is its sparsity times its robust accuracy."""
    found = compared(tmp_path, a=[(0.5, standing(140))], b=[(0.5, standing(60))])
    sparsity = found.runs[0][0].networks[0].sparsity
    volume = found.groups[0].hypervolume
    spread = sparsity * math.sqrt(0.7 * 0.3 / 200)
    assert volume.value == pytest.approx(0.7 * sparsity)
    assert volume.low == pytest.approx(0.7 * sparsity - 1.96 * spread, abs=0.15 * spread)
    assert volume.high == pytest.approx(0.7 * sparsity + 1.96 * spread, abs=0.15 * spread)


def test_indicators_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    dense, sparse = (0.25, standing(160)), (0.75, standing(80))
    (pair,) = compared(tmp_path, a=[dense, sparse], b=[(0.25, standing(150)), (0.75, standing(100))]).pairs
    assert (pair.covers, pair.covered) == (0.5, 0.5)
    assert (pair.epsilon, pair.epsilon_reverse) == (pytest.approx(0.1), pytest.approx(0.05))


def test_surfaces_are_what_a_share_of_the_repeats_attains(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    runs = []
    for number in range(4):
        sparsities = np.round(random.uniform(0.3, 0.98, size=5), 2)
        points = [(float(s), standing(int(190 * (1 - s**4) * random.uniform(0.7, 1)))) for s in sparsities]
        runs.append(made(tmp_path, f"s-{number}", points))
    (group,) = compare([Group("s", tuple(runs))]).groups

    def attaining(sparsity: float, accuracy: float) -> int:
        reached = [any(p.sparsity >= sparsity and p.robust_accuracy >= accuracy for p in run.points()) for run in runs]
        return sum(reached)

    assert set(group.surfaces) == set(SURFACES)
    for share, places in group.surfaces.items():
        needed = math.ceil(share / 100 * len(runs))
        assert places
        for sparsity, accuracy in places:
            assert attaining(sparsity - 1e-9, accuracy - 1e-9) >= needed
            assert attaining(sparsity + 1e-9, accuracy - 1e-9) < needed
            assert attaining(sparsity - 1e-9, accuracy + 1e-9) < needed


def test_repeats_widen_the_interval_by_how_much_they_differ(tmp_path: Path) -> None:
    same = [made(tmp_path, f"same-{number}", [(0.5, standing(140))]) for number in range(3)]
    spread = [made(tmp_path, f"spread-{number}", [(0.5, standing(c))]) for number, c in enumerate((80, 140, 196))]
    steady, shaky = compare([Group("same", tuple(same)), Group("spread", tuple(spread))]).groups
    assert steady.sd == 0
    assert shaky.sd == pytest.approx(0.5 * np.std([0.4, 0.7, 0.98], ddof=1), rel=0.01)
    assert steady.hypervolume.value == pytest.approx(0.35, abs=0.001)
    width = [group.hypervolume.high - group.hypervolume.low for group in (steady, shaky)]
    assert width[1] > 3 * width[0]


def test_only_points_that_meet_the_constraints_of_all_count(tmp_path: Path) -> None:
    free = Study(factories.make_study(tmp_path / "free", 12, factories.study_spec(name="free", constraints={})))
    bound = {"clean_accuracy": ">= 0.96"}
    bounded = Study(factories.make_study(tmp_path / "tight", 12, factories.study_spec(name="tight", constraints=bound)))
    found = compare(alone(free, bounded))
    assert found.groups[0].runs[0].front == found.groups[1].runs[0].front
    assert found.groups[1].hypervolume.value == pytest.approx(bounded.hypervolume()) != free.hypervolume()
    assert found.notes == ("the constraints differ: only points that meet those of all studies count",)


def test_a_study_without_points_attains_nothing(tmp_path: Path) -> None:
    found = compared(tmp_path, a=[(0.85, standing(100))], b=[])
    assert found.groups[1].hypervolume.value == 0
    (pair,) = found.pairs
    assert {(each.ahead, each.other, each.difference) for each in pair.ranges} == {("a", None, None)}
    assert pair.covers is None


def test_a_configuration_is_compared_once_all_its_replicates_have_ended(tmp_path: Path) -> None:
    spec = factories.study_spec(name="a", seeds=[1, 2], constraints={})
    study = Study(factories.make_study(tmp_path / "a", 4, spec))
    assert [(row.configuration, row.seeds) for row in study.configurations()] == [(0, 2), (0, 2), (1, 1), (1, 1)]
    found = compare(alone(study, made(tmp_path, "b", [(0.5, standing(100))])))
    assert found.groups[0].runs[0].front == tuple(row.point for row in study.front())
    assert found.groups[0].hypervolume.value == pytest.approx(study.hypervolume())


def test_confirmed_numbers_replace_estimates(tmp_path: Path) -> None:
    studies = [Study(factories.make_study(tmp_path / name, 12, factories.study_spec(name=name))) for name in "ab"]
    confirm(studies[0].records)
    with pytest.raises(SpecError, match=r"b: no point is confirmed with all attacks; `robustsearch confirm b"):
        compare(alone(*studies), confirmed=True)
    confirm(studies[1].records, seeds=1)
    found = compare(alone(*studies), confirmed=True)
    assert found.confirmed
    assert "Confirmed on the test split" in found.measured
    for run, study in zip(found.runs, studies, strict=True):
        rows = {row.point: row for row in study.confirmed_front()}
        assert [network.point for network in run[0].networks] == list(rows)
        for network in run[0].networks:
            assert network.robust_accuracy == rows[network.point].robust_accuracy_mean
            assert network.verdicts.shape == (rows[network.point].seeds, 2, 200)
            assert network.verdicts[:, 0].mean() == pytest.approx(network.robust_accuracy)


def test_verdicts_that_are_not_stored_are_drawn_with_the_same_counts(tmp_path: Path) -> None:
    study = Study(factories.make_study(tmp_path / "a", 6, factories.study_spec(name="a")))
    other = Study(factories.make_study(tmp_path / "b", 9, factories.study_spec(name="b")))
    for network in compare(alone(study, other)).runs[0][0].networks:
        point = next(row.measured for row in study.points() if row.point == network.point)
        assert point.verdicts == ""
        assert network.verdicts.sum(axis=-1).tolist() == [[point.robust_correct, point.clean_correct]]
        assert not (network.verdicts[:, 0] & ~network.verdicts[:, 1]).any()


def test_outcomes_on_clean_images_are_those_that_are_stored(tmp_path: Path) -> None:
    spec = factories.study_spec(name="a", constraints={})
    records = factories.make_study(tmp_path / "a", 0, spec)
    records.issue(factories.trial(0, spec))
    step = factories.measurements(factories.trial(0, spec), spec)[0]
    clean = np.arange(200) % 3 > 0
    stored = {"clean_accuracy": float(clean.mean()), "outcomes": {"clean_accuracy": hexed(clean)}}
    robust = {"robust_accuracy": float(clean[:100].sum() / 200), "verdicts": hexed(clean & (np.arange(200) < 100))}
    point = factories.point(key=step.key, stage=step.parent, examples=200, **stored, **robust)
    records.write_outcome(factories.outcome(0, [point]))
    other = Study(factories.make_study(tmp_path / "b", 3, factories.study_spec(name="b", constraints={})))
    (network,) = compare(alone(Study(records), other)).runs[0][0].networks
    assert network.verdicts[0, 1].tolist() == clean.tolist()


def test_flagged_points_on_a_front_are_named_and_hollow(tmp_path: Path) -> None:
    spec = factories.study_spec(name="a", constraints={})
    records = factories.make_study(tmp_path / "a", 0, spec)
    records.issue(factories.trial(0, spec))
    step = factories.measurements(factories.trial(0, spec), spec)[0]
    flagged = factories.point(flags=("gradient_masking",), key=step.key, stage=step.parent)
    records.write_outcome(factories.outcome(0, [flagged]))
    found = compare(alone(Study(records), made(tmp_path, "b", [(0.5, standing(100))])))
    assert found.notes == ("a: 1 of 1 points are flagged: t0.0",)
    hollow = [each for each in draw(found).axes[0].collections if len(each.get_offsets()) and each.get_zorder() == 5]
    assert [each.get_facecolor()[0][:3].tolist() == [1, 1, 1] for each in hollow] == [True, False]


@pytest.mark.parametrize(
    "measures",
    [("robust_accuracy",), ("clean_accuracy", "sparsity"), ("robust_accuracy", "sparsity", "clean_accuracy")],
)
def test_any_objectives_can_be_compared_and_drawn(tmp_path: Path, measures: tuple[str, ...]) -> None:
    wanted = dict.fromkeys(measures, "maximise")
    specs = [factories.study_spec(name=name, objectives=wanted) for name in "ab"]
    studies = [Study(factories.make_study(tmp_path / spec.name, 6, spec)) for spec in specs]
    found = compare(alone(*studies))
    assert [group.hypervolume.value for group in found.groups] == [pytest.approx(s.hypervolume()) for s in studies]
    assert all(low < high for group in found.groups for low, high in [(group.hypervolume.low, group.hypervolume.high)])
    assert len(draw(found).axes) == 2
