"""Which rows a study may be compared with, and why not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from search.results.references import reference
from search.results.references.match import Match, match
from search.results.study import Study
from tests.search.factories import make_study, study_spec

FIELD: dict[str, Any] = {
    "data": {"kind": "cifar10", "validation": 360},
    "model": "resnet18",
    "protocol": {"eps": "8/255"},
}

SPARSITY = {"kind": "float", "low": 0.3, "high": 0.9}
EPS = {"kind": "float", "low": 0.02, "high": 0.2}


def matched(folder: Path, **changes: Any) -> Match:
    make_study(folder / "study", 3, study_spec(**{**FIELD, **changes}), troubled=False)
    return match(reference("piras2024"), Study.open(str(folder / "study")))


def test_rows_of_the_same_data_network_structure_and_threat_model_match(tmp_path: Path) -> None:
    found = matched(tmp_path)
    assert found.reason is None
    assert len(found.rows) == 30
    assert {(row.data, row.model, row.structure) for row in found.rows} == {("cifar10", "resnet18", "unstructured")}
    assert "eps is 0.031 there and 8/255 here, which favours the rows a little" in found.remarks
    assert any("only confirmed points compare" in remark for remark in found.remarks)


def test_with_the_same_radius_nothing_is_said_of_it(tmp_path: Path) -> None:
    found = matched(tmp_path, protocol={"eps": "0.031"})
    assert len(found.rows) == 30
    assert not any("eps" in remark for remark in found.remarks)


def test_filters_are_compared_with_filters(tmp_path: Path) -> None:
    found = matched(tmp_path, recipe={"kind": "harp", "structure": "filter"}, space={"recipe.sparsity": SPARSITY})
    assert {row.structure for row in found.rows} == {"filter"}
    assert len(found.rows) == 12


def test_less_training_data_is_said(tmp_path: Path) -> None:
    found = matched(tmp_path, data={"kind": "cifar10", "validation": 360, "limit": 1000})
    assert "the study trains on 1000 images only (data.limit)" in found.remarks


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": {"kind": "digits", "validation": 360}}, "the study is on digits; .* has CIFAR-10 and SVHN"),
        ({"data": {"kind": "cifar10", "validation": 360, "select": [3, 5]}}, "uses 2 classes of cifar10; .* has all"),
        ({"model": "resnet20"}, "the study's network is resnet20; .* has ResNet-18 and VGG-16"),
        ({"protocol": {"eps": "16/255"}}, r"l_inf with eps = 16/255; .* is l_inf with eps = 0\.031"),
        ({"protocol": {"eps": 0.5, "attack": {"kind": "pgd", "norm": "l2"}}}, r"l_2 with eps = 0\.5; .* is l_inf"),
        (
            {
                "recipe": {"kind": "three_stage", "sparsity": 0.5, "prune": {"structure": "2:4"}},
                "space": {"recipe.train.eps": EPS},
            },
            "the study prunes 2:4; .* has single weights and whole filters",
        ),
    ],
)
def test_what_does_not_match_is_said(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    found = matched(tmp_path, **changes)
    assert found.rows == ()
    assert found.reason is not None
    assert re.search(f"^no row of piras2024 is shown: .*{reason}", found.reason)
