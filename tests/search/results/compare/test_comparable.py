from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.results.compare.comparable import check, notes
from search.results.study import Study
from tests.search import factories
from tests.search.confirmations import confirm
from trainables.core.errors import SpecError

L2 = {"attack": {"kind": "pgd", "norm": "l2"}, "eps": 0.1}


def study(root: Path, name: str, trials: int = 0, **changes: Any) -> Study:
    return Study(factories.make_study(root / name, trials, factories.study_spec(name=name, **changes)))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"protocol": {"eps": 0.2}}, "protocol.eps: 0.1 in a; 0.2 in b"),
        ({"protocol": L2}, "the norm: linf in a; l2 in b"),
        ({"protocol": {"eps": 0.1, "attack": {"kind": "pgd", "steps": 7}}}, "protocol.attack: .*steps: 7"),
        ({"protocol": {"eps": 0.1, "noise": True}}, "protocol.noise: False in a; True in b"),
        ({"data": {"kind": "digits", "validation": 300}}, "data.validation: 360 in a; 300 in b"),
        ({"data": {"kind": "digits", "validation": 360, "split_seed": 1}}, "data.split_seed: 0 in a; 1 in b"),
        (
            {"objectives": {"robust_accuracy": "maximise", "nonzero": "minimise"}},
            "objectives: .*nonzero: minimise in b",
        ),
    ],
)
def test_what_is_measured_otherwise_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SpecError, match=f"cannot be compared(.|\n)*  {named}"):
        check([study(tmp_path, "a"), study(tmp_path, "b", **changes)], confirmed=False)


def test_other_data_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study(tmp_path, "a")
    print_ = factories.FINGERPRINT.model_copy(update={"data_hash": "0" * 64})
    monkeypatch.setattr(factories, "FINGERPRINT", print_)
    with pytest.raises(SpecError, match=r"the training files \(fingerprint\): \w{12} in a; 000000000000 in b, c"):
        check([first, study(tmp_path, "b"), study(tmp_path, "c")], confirmed=False)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"seed": 3, "sampler": "random", "budget": {"trials": 99}}, None),
        ({"objectives": {"sparsity": "maximise", "robust_accuracy": "maximise"}}, None),
        ({"protocol": {"eps": "1/10"}}, None),
        ({"constraints": {}}, "constraints differ"),
        ({"model": "lenet5"}, "networks differ"),
        ({"protocol": {"eps": 0.1, "examples": 100}}, "numbers of examples differ"),
    ],
)
def test_what_differs_and_can_be_compared_is_said(tmp_path: Path, changes: dict[str, Any], note: str | None) -> None:
    studies = [study(tmp_path, "a"), study(tmp_path, "b", **changes)]
    check(studies, confirmed=False)
    said = notes(studies, confirmed=False)
    assert len(said) == (note is not None)
    assert note is None or note in said[0]


def test_confirmed_numbers_compare_on_the_same_examples_alone(tmp_path: Path) -> None:
    studies = [study(tmp_path, "a", 12), study(tmp_path, "b", 12, protocol={"eps": 0.1, "attack": {"kind": "fgsm"}})]
    confirm(studies[0].records, seeds=1)
    confirm(studies[1].records, seeds=1, limit=100)
    with pytest.raises(SpecError, match=r"the number of test examples: 200 in a; 100 in b$"):
        check(studies, confirmed=True)
    confirm(studies[1].records, seeds=1)
    check(studies, confirmed=True)
