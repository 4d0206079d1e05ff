from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.files.yaml import MAX_BYTES, MAX_DEPTH, decode, dump_yaml, leaves, load, parse, parse_value
from trainables.core.errors import SpecError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("-2.", -2.0),
        ("017", 17),
        ("0x1f", 31),
        ("0o17", 15),
        ("~", None),
        ("", None),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("8/255", "8/255"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2001-01-01", "2001-01-01"),
        ("'1e-4'", "1e-4"),
        ('"null"', "null"),
        ("=", "="),
        (".inf", math.inf),
        ("[1, {a: 8/255}]", [1, {"a": "8/255"}]),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse_value(text, "value")
    assert found == value
    assert type(found) is type(value)


def test_positions_are_those_of_keys_and_items() -> None:
    document = parse("a: 1\nb:\n  - x\n  - c: 2\n    d: [5, 6]\n", "my.yaml")
    assert document.data == {"a": 1, "b": ["x", {"c": 2, "d": [5, 6]}]}
    assert document.where(("b", 1, "d")) == "my.yaml:5:5"
    assert document.where(("b", 1, "d", 1)) == "my.yaml:5:12"
    assert document.where(("b", 0)) == "my.yaml:3:5"
    assert document.get(("b", 1, "c")) == 2
    assert document.get(("b", 7)) is None


def test_where_falls_back_to_what_holds_the_missing_key() -> None:
    document = parse("a:\n  b: 1\n", "my.yaml")
    assert document.where(("a", "c", "d")) == "my.yaml:1:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"my.yaml:3:1: duplicate key 'a'; it stands in line 1"),
        ("x: {a: 1, a: 2}\n", r"my.yaml:1:11: duplicate key 'a'"),
        ("a:\n\tb: 1\n", r"my.yaml:2:1: a tab"),
        ("a: &x [1]\nb: *x\n", r"my.yaml:1:4: anchors and aliases"),
        ("a: *x\n", r"my.yaml:1:4: anchors and aliases"),
        ("a: !!python/object/apply:os.system [id]\n", r"my.yaml:1:4: tags such as .*python/object.* are not accepted"),
        ("a: !!str 1\n", r"my.yaml:1:4: tags"),
        ("a: !x {}\n", r"my.yaml:1:4: tags"),
        ("<<: {a: 1}\n", r"my.yaml:1:1: merge keys"),
        ("? [a]\n: 1\n", r"my.yaml:1:3: a key must be a plain text"),
        ("a: 1\n---\nb: 2\n", r"my.yaml:2:1: a second document"),
        ("%YAML 1.1\n---\na: no\n", r"YAML 1.2"),
        ("a: [1, 2\n", r"my.yaml:2:1: expected ',' or '\]'"),
        ("a: b: c\n", r"my.yaml:1:5: mapping values are not allowed here in 'a: b: c'"),
        ("a: \x07\n", r"my.yaml:1:4: not valid YAML: the control character"),
        ("a: " + "9" * 5000, r"my.yaml:1:4: a number of 5000 characters"),
    ],
)
def test_refusals_name_line_and_column(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(text, "my.yaml")


@pytest.mark.slow
def test_deep_nesting_is_refused_at_once() -> None:
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH, "my.yaml").data is not None
    with pytest.raises(SpecError, match="nested deeper"):
        parse("[" * 100_000, "my.yaml")
    with pytest.raises(SpecError, match="nested deeper"):
        parse("\n".join("  " * n + f"k{n}:" for n in range(100)), "my.yaml")


def test_billion_laughs_is_refused_before_it_grows() -> None:
    lines = ["a0: &a0 [ha, ha]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    with pytest.raises(SpecError, match="anchors and aliases"):
        parse("\n".join(lines), "my.yaml")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", b"a: 1\r\nb: 2\r\n", b"a: 1\nb: 2"])
def test_byte_order_mark_and_windows_line_ends_are_accepted(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    assert load(path).data == {"a": 1, "b": 2}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_encodings_are_named(encoding: str) -> None:
    with pytest.raises(SpecError, match="UTF-8"):
        decode("name: a\n".encode(encoding), "my.yaml")


def test_latin_1_is_refused_with_its_line() -> None:
    with pytest.raises(SpecError, match=r"my.yaml:2: byte 8 is not UTF-8"):
        decode(b"a: 1\nb: \xe9\n", "my.yaml")


def test_big_files_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with open(path, "wb") as file:
        file.truncate(100 * MAX_BYTES)
    with pytest.raises(SpecError, match=r"big.yaml:1: more than 1000 kB"):
        load(path)


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_unreadable_files_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read"):
        load(tmp_path / name)


def test_leaves_walk_everything() -> None:
    assert dict(leaves({"a": [1, {"b": 2}], "c": {}})) == {("a", 0): 1, ("a", 1, "b"): 2, ("c",): {}}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["no", "1e-4", ".5e5", "null", "8/255", "a: b", "- x", "# c", "<<", "0x1f", "=", "...", "---", "~", "'", '"', "é"]
)
scalars = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | texts
plain_data = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(texts, plain_data, max_size=4))
@pytest.mark.slow
def test_dump_reads_back_equal(data: dict[str, object]) -> None:
    text = dump_yaml(data)
    found = parse(text, "dumped")
    assert found.data == data
    assert dump_yaml(found.data) == text


def test_dump_refuses_what_is_not_plain() -> None:
    with pytest.raises(ValueError, match="not plain data"):
        dump_yaml({"a": object()})
