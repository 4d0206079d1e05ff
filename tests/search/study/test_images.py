"""Numbers of images in a study against the images that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.results.study import Study
from search.study import file
from tests.search.factories import make_study
from tests.search.tiny import FIELDS
from trainables.core.errors import SpecError

HELD = "but data.validation holds back 60 images"


def study(**changes: Any) -> dict[str, Any]:
    """The tiny study with 60 validation images, of which the protocol measures 50."""
    return {**FIELDS, "data": {"kind": "digits", "validation": 60}, "protocol": {"eps": 0.1, "examples": 50}, **changes}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("protocol.examples=61", f"protocol.examples: 61, {HELD}"),
        ("protocol.metrics=[{kind: distance, examples: 51}]", "protocol.metrics[0].examples: 51, but the protocol"),
        ("protocol.metrics=[weights, {kind: noise, examples: 51}]", "protocol.metrics[1].examples: 51, but the"),
        ("screening={examples: 51}", "screening.examples: 51, but the protocol measures 50 images"),
        ("early_stopping={kind: reach, examples: 51}", "early_stopping.examples: 51, but the protocol measures 50"),
        ("recipe.train.validate_on=61", f"recipe.train.validate_on: 61, {HELD}"),
        ("recipe.train.select=1378", "recipe.train.select: 1378 of 1378 images to train on are held back"),
    ],
)
def test_more_images_than_there_are_are_refused_with_how_many_there_are(setting: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        file.from_dict(study(), overrides=[setting])
    assert said in str(refused.value)


def test_what_is_wrong_stands_at_its_line(tmp_path: Path) -> None:
    text = file.dump(file.from_dict(study())).replace("examples: 50", "examples: 99")
    (path := tmp_path / "tiny.yaml").write_text(text)
    line = text[: text.index("examples: 99")].count("\n") + 1
    with pytest.raises(SpecError, match=rf"tiny.yaml:{line}:\d+:? protocol.examples: 99, {HELD}"):
        file.load(path)


@pytest.mark.parametrize(
    "setting",
    [
        "protocol.examples=60",
        "protocol.metrics=[dynamics, lipschitz, {kind: distance, examples: 50}]",
        "screening={}",
        "early_stopping=moasha",
        "recipe.train.validate_on=60",
        "recipe.train.select=1377",
    ],
)
def test_all_images_that_there_are_and_defaults_are_fine(setting: str) -> None:
    file.from_dict(study(), overrides=[setting])


def test_studies_from_before_the_check_are_read(tmp_path: Path) -> None:
    spec = file.from_dict(study())
    metrics = {"metrics": [{"kind": "distance", "examples": 1000}], "eps": 0.1, "examples": 50}
    old = type(spec).model_validate({**spec.resolved(), "protocol": metrics})
    make_study(tmp_path / "tiny", 0, old)
    assert Study.open(str(tmp_path / "tiny")).spec == old
