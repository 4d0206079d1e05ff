"""The claims of papers have the verdicts of what was measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from search.results.paper.claims import claims_table
from search.study.spec import Reproduces
from tests.search.results.paper.made import MNIST, Made, inverted_u


@pytest.mark.slow
def test_claims_have_the_verdict_of_what_was_measured(tmp_path: Path) -> None:
    made = Made(tmp_path / "true", MNIST, seeds=3)
    made.robust = inverted_u
    verdicts = [row["verdict"] for row in claims_table(made.study()).to_pylist()]
    assert verdicts[:2] == ["holds", "holds"]
    assert verdicts[4] == "holds", "naturally trained networks are at 2 %"
    flat = Made(tmp_path / "flat", MNIST, seeds=3)
    flat.robust = lambda seed, params, sparsity: 0.45 + 0.005 * seed - 0.05 * sparsity
    assert [row["verdict"] for row in claims_table(flat.study()).to_pylist()][:2] == ["does not", "holds"]
    one = Made(tmp_path / "one", MNIST, seeds=1)
    one.robust = inverted_u
    assert claims_table(one.study()).to_pylist()[0]["verdict"] == "cannot tell"


def test_of_a_claim_about_many_cells_the_least_and_the_most_are_written(tmp_path: Path) -> None:
    made = Made(tmp_path, MNIST, seeds=3)
    made.robust = inverted_u
    gain, loss, _, _, natural, cost, true_labels, fgsm = claims_table(made.study()).to_pylist()
    assert gain["paper"] == "51.3 %: +14.8; 16.9 %: +14.6; 8.7 %: +12.3"
    assert re.sub(r" \[.*?\]", "", gain["ours"]) == "51.3 %: +15.0; 16.9 %: +15.0; 8.7 %: +13.0"
    assert (loss["paper"], re.sub(r" \[.*?\]", "", loss["ours"])) == ("-7.1", "-7.0")
    assert {true_labels["paper"], fgsm["paper"]} == {"not known"}
    assert natural["paper"] == (
        "from 0.7 (16.9 %, PGD: natural training, attacked) to 11.5 (16.9 %, FGSM: natural training, attacked)"
    )
    assert cost["paper"] == "3.6 %: -2.8; 1.8 %: -5.7"


def test_a_collapsed_training_says_nothing_of_distances_either(tmp_path: Path) -> None:
    def verdict(clean: float) -> tuple[str, str]:
        made = Made(tmp_path / str(clean), Reproduces(paper="guo2018", table="lenet300"), seeds=3)
        made.robust = lambda seed, params, sparsity: (0.5 + 0.01 * seed) * (0.1 if sparsity > 0.99 else 1.0)
        made.clean = lambda seed, params, sparsity: clean if sparsity > 0.99 and seed == 2 else 0.95
        (row,) = (row for row in claims_table(made.study()).to_pylist() if "sparsest" in row["claim"])
        return row["verdict"], row["why"]

    assert verdict(0.9) == ("holds", "")
    assert verdict(0.11) == ("cannot tell", "a training collapsed")


def test_a_gain_counts_only_where_it_costs_as_little_as_the_claim_says(tmp_path: Path) -> None:
    def gain(loss: float) -> dict[str, str]:
        made = Made(tmp_path / str(loss), Reproduces(paper="guo2018", table="lenet5"), seeds=5)
        made.robust = lambda seed, params, sparsity: (
            0.3 + 0.01 * seed * (1 - sparsity / 9) + 0.2 * (0.9 < sparsity < 0.95)
        )
        made.clean = lambda seed, params, sparsity: 0.9 + 1e-4 * seed * (1 + sparsity) - loss * (sparsity > 0.9)
        rows = claims_table(made.study()).to_pylist()
        return next(row for row in rows if "C&W at least 5 % above" in row["claim"])

    cheap, dear = gain(-0.05), gain(0.05)
    assert cheap["verdict"] == "holds"
    assert dear["verdict"] == "does not", "it is 5 points less accurate"
    assert re.sub(r" \[.*?\]", "", dear["ours"].split("; ")[-1]) == "93.75 %: +61.8 % (clean -5.0)"
