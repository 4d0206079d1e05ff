from __future__ import annotations

import json
import math

import pytest

from trainables.store.curves import EpochValues, TrainingCurve, from_numbers, numbers, parsed

EPOCHS = (
    EpochValues(2, 1.5, 0.25, 0.1, 8 / 255),
    EpochValues(3, 0.1 + 0.2, 0.5, 0.05, 8 / 255, validation_loss=1.25, clean_accuracy=0.75, robust_accuracy=0.0),
)
CURVE = TrainingCurve("train", length=3, images=600, examples=20, epochs=EPOCHS, size="small")


def test_a_curve_comes_back_as_it_was() -> None:
    text = CURVE.json_text()
    assert parsed(text.encode()) == CURVE
    assert json.loads(text)["clean_accuracy"] == [None, 0.75], "unknown is null"
    assert parsed(TrainingCurve("imitate", 0, 0, 0, ()).json_text().encode()) == TrainingCurve("imitate", 0, 0, 0, ())


def test_a_saved_epoch_keeps_what_is_unknown_apart_from_zero() -> None:
    rows = numbers(EPOCHS)
    assert math.isnan(rows[0][5])
    assert from_numbers(rows) == list(EPOCHS)


def test_a_curve_of_a_later_version_may_say_more_and_one_may_say_less() -> None:
    found = json.loads(CURVE.json_text())
    assert parsed(json.dumps({**found, "novel": [1, 2]}).encode()) == CURVE
    del found["validation_loss"]
    assert (less := parsed(json.dumps(found).encode())) is not None
    assert [epoch.validation_loss for epoch in less.epochs] == [None, None]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "{}", "[" * 100_000, CURVE.json_text()[:-9], CURVE.json_text().replace("[2, 3]", "[2]")],
    ids=["empty", "list", "number", "nothing", "deep", "torn", "uneven"],
)
def test_what_is_no_curve_is_none(text: str) -> None:
    assert parsed(text.encode()) is None
