from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.search.confirmations import attack, confirmation
from trainables.store import confirmations
from trainables.store.storage import Storage

YES, NO = True, False


def test_a_result_is_written_once_under_its_name(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    first = attack("square", [YES, NO, NO], [YES, YES, NO], limit=500)
    assert first.place() == f"confirm/{first.weights_sha256}/first-500/square.json"
    assert confirmations.write(storage, first)
    kept = storage.read(first.place())
    assert not confirmations.write(storage, first.model_copy(update={"seconds": 9.0}))
    assert storage.read(first.place()) == kept
    assert confirmations.Confirmation.model_validate_json(kept) == first


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"correct": "00"}, "0 bits of correct are set"),
        ({"attacked": "e1"}, "other examples"),
        ({"attacked": "zz"}, "not hexadecimal"),
        ({"attacked": "40", "attacked_count": 1}, "correct that was not attacked"),
        ({"distances": (0.1,)}, "1 distances of 3"),
        ({"limit": 2}, "2 were asked for"),
        ({"attack": "../x"}, "attack"),
        ({"weights_sha256": "x"}, "weights_sha256"),
        ({"started": "yesterday"}, "ISO 8601"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        confirmations.Confirmation.model_validate(confirmation([YES, NO, YES]).model_dump() | changes)


def test_bits_are_sets_of_examples() -> None:
    chosen = confirmations.bits("a280")
    assert chosen.bit_count() == 4
    assert confirmations.packed(9, chosen) == "a280"
