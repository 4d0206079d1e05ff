"""Manifests as YAML, read back as kubectl reads them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml as yaml_1_1
from hypothesis import given
from hypothesis import strategies as st

from search.cluster.carriers.kubernetes import render
from search.files import yaml

TEXTS = [
    "yes",
    "n",
    "on",
    "Off",
    "null",
    "~",
    "12:30:00",
    "1_000",
    "0x1F",
    "012",
    "1e3",
    ".5",
    "=",
    "<<",
    "",
    "2001-01-01",
]
ODD = [
    "a: b\nc\n",
    " x\n",
    "# x\n",
    "a\n\n",
    "\n",
    "a\tb\n",
    "é\n",
    "x #y",
    "- a",
    "{a}",
    "*a",
    "!a",
    "a\r\nb\n",
    "a\x85b\n",
]


@pytest.mark.parametrize("text", TEXTS + ODD)
def test_texts_stay_texts(text: str) -> None:
    manifest = {"a": {text: text}, "b": [text, {"c": text}]}
    written = render.dump([manifest])
    assert yaml_1_1.safe_load(written) == manifest
    assert yaml.parse(written, "m.yaml").data == manifest


_SCALARS = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(st.characters(codec="utf-8"), max_size=20)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab:-yn1", max_size=4), inner, max_size=3),
)


@pytest.mark.slow
@given(data=st.dictionaries(st.text("abc", min_size=1, max_size=3), _DATA, max_size=4))
def test_what_is_written_is_what_yaml_1_1_reads(data: dict[str, Any]) -> None:
    documents = list(yaml_1_1.safe_load_all(render.dump([data, {"x": 1}])))
    assert documents == [data, {"x": 1}]


def test_a_file_in_a_manifest_can_be_read() -> None:
    assert render.dump([{"data": {"study.yaml": "name: a\nseed: 1\n"}}]) == (
        "data:\n  study.yaml: |\n    name: a\n    seed: 1\n"
    )
