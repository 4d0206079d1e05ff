"""Checksums of records: whatever is changed in the bytes is noticed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.store.checksum import checksum_fault, sealed

PLACE = "trials/00001/outcome.json"
FIELDS = st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8), min_size=1, max_size=4)


@given(FIELDS)
def test_a_sealed_record_is_the_same_object_and_right(fields: dict[str, object]) -> None:
    content = sealed(json.dumps(fields, indent=1), PLACE)
    read = json.loads(content)
    assert {name: read[name] for name in fields if name not in ("format", "checksum")} == {
        name: value for name, value in fields.items() if name not in ("format", "checksum")
    }
    assert checksum_fault(content, PLACE, required=True) is None


def test_every_flipped_bit_is_noticed() -> None:
    content = sealed('{\n "number": 17,\n "state": "complete"\n}', PLACE)
    for index in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[index] ^= 1 << bit
            assert checksum_fault(bytes(flipped), PLACE, required=True), (index, bit)


def test_a_record_in_anothers_place_is_noticed() -> None:
    content = sealed('{"number": 1}', PLACE)
    assert checksum_fault(content, "trials/00002/outcome.json") == (
        "its checksum differs: it was edited, is damaged, or is another file's"
    )


@pytest.mark.parametrize(("required", "fault"), [(False, None), (True, "its checksum is missing")])
def test_a_record_of_before_there_were_checksums_is_accepted_where_none_is_required(
    required: bool, fault: str | None
) -> None:
    found = checksum_fault(b'{"number": 1}\n', PLACE, required=required)
    assert found is None if fault is None else str(found).startswith(fault)
