"""Every input has an answer: no traceback, no hang, and a documented exit code.

`make test` runs a fixed number of derandomised examples, some 30 seconds in all. `make test-long` runs others for an
hour (FUZZ_SECONDS), with seeds that it prints; FUZZ_SEED repeats one. What it finds becomes a case of `FOUND`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from search.files.messages import printable
from search.files.yaml import leaves, parse
from search.launch.sharing import estimate
from search.launch.validate import check_file
from search.study.file import builtin_names, builtin_text, from_dict
from tests.fuzz.guard import limited
from tests.fuzz.inputs import VALUES, clusters, mutated, studies, values
from tests.search.command import run
from tests.search.factories import make_study
from trainables.core.errors import SpecError

KEYS = [
    *(
        "recipe.epochs",
        "recipe.sparsity",
        "recipe.train.eps",
        "space.recipe.rewind",
        "~space.recipe.rewind",
        "~enqueue.0",
    ),
    *(
        "space",
        "~",
        "a..b",
        "schema",
        "seed",
        "data.limit",
        "budget.trials",
        "sampler",
        "early_stopping.kind",
        "plugins",
    ),
    *("model.kind", "recipe.kind", "recipe", "protocol.metrics", "stage_storage", "enqueue", "x" * 300, "~recipe"),
]
FOUND: dict[str, bytes] = {
    "escape beyond Unicode": b'name: a\ndescription: "\\UFFFFFFFF"\n',
    "half a surrogate pair": b'name: "\\ud800"\n',
    "directive with a number of 5000 digits": b"%YAML " + b"1" * 5000 + b".2\n---\na: 1\n",
    "60,000 keys": b"".join(b"k%d: 1\n" % n for n in range(60_000)),
    "a long tag": b"a: !" + b"x" * 900_000,
    "conditions on all before": b"name: a\ndata: digits\nmodel: lenet300\nrecipe: imp\nspace:\n"
    + b"".join(
        b"  recipe.p%d: {kind: int, low: 0, high: 3, when: {%s}}\n"
        % (n, b", ".join(b"recipe.p%d: 1" % m for m in range(n)))
        for n in range(40)
    ),
}
"""Inputs that once ended in a traceback, or took seconds or gigabytes."""


def answered(content: bytes, file: Path) -> None:
    """Check that a file is accepted, or refused in a message that can be printed."""
    file.write_bytes(content)
    with limited():
        result = check_file(str(file), networks=False)
    printable(f"{result.summary}{result.error or ''}").encode()
    assert result.error is None or len(str(result.error)) < 20_000


def ran(*arguments: str, **environment: str) -> None:
    """Check that a command ends with a documented exit code and without a traceback."""
    with limited():
        result = run(*arguments, **environment)
    assert result.exit_code in (0, 2, 3, 5), (result.exit_code, result.output)
    assert "Traceback" not in result.output


@pytest.mark.slow
@pytest.mark.parametrize("case", FOUND)
def test_what_was_found_has_an_answer(case: str, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    answered(FOUND[case], file)
    assert check_file(str(file), networks=False).error is not None


def fuzz_files(content: bytes, folder: Path) -> None:
    answered(content, folder / "my.yaml")


def fuzz_arguments(drawn: tuple[str, str, str | None, str | None], folder: Path) -> None:
    key, value, name, trials = drawn
    arguments = ["launch", "quickstart", "--dry-run", "--cluster", "inline", "--set", f"{key}={value}"]
    arguments += [f"--name={name}"] if name is not None else []
    arguments += [f"--trials={trials}"] if trials is not None else []
    ran(*arguments, "--storage", str(folder / "runs"))


def fuzz_data(drawn: tuple[str, list[tuple[float, Any]]], folder: Path) -> None:
    """Replace values of a study that is a mapping, and read it; what is accepted must also be drawn from."""
    name, changes = drawn
    data = parse(builtin_text(name), name).data
    for share, value in changes:
        path, _ = [*leaves(data)][int(share * (len([*leaves(data)]) - 1))]
        holder = data
        for part in path[:-1]:
            holder = holder[part]
        holder[path[-1]] = value
    refused = None
    with limited():
        try:
            estimate(from_dict(data))
        except SpecError as error:
            refused = error
    assert len(str(refused)) < 20_000


def fuzz_names(text: str, folder: Path) -> None:
    ran("status", "--storage", str(folder / "runs"), "--", text)
    ran("validate", "--", text)
    ran("status", "--storage", text)


def fuzz_records(drawn: tuple[str, float, bytes, int], folder: Path) -> None:
    """Damage one file of a study, and read it."""
    path, share, inserted, removed = drawn
    study = folder / "synthetic"
    if not study.exists():
        make_study(study, 4)
    file = study / path
    before = file.read_bytes()
    at = int(share * len(before))
    file.write_bytes(before[:at] + inserted + before[at + removed :])
    try:
        for command in (["front", "synthetic"], ["status", "synthetic", "--json"], ["export", "synthetic"]):
            ran(*command, "--storage", str(folder))
    finally:
        file.write_bytes(before)


texts = st.text(max_size=30) | st.sampled_from(VALUES)
seldom = st.integers(0, 3).flatmap(lambda n: st.none() if n else texts)
arguments = st.tuples(st.sampled_from(KEYS), values, seldom, seldom)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from([10**4000, b"", Path()])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
data = st.tuples(
    st.sampled_from(builtin_names()), st.lists(st.tuples(st.floats(0, 1), anything), min_size=1, max_size=2)
)
records = st.tuples(
    st.sampled_from(["study.yaml", "trials/00000/trial.json", "trials/00001/outcome.json"]),
    st.floats(0, 1),
    st.binary(max_size=6) | st.sampled_from([b"[" * 5000, b"9" * 5000, b'"\\ud800"', b"null", b"1e999", b"{}"]),
    st.integers(0, 30),
)
FUZZERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any, Path], None], int]] = {
    "studies": (mutated(studies), fuzz_files, 400),
    "data": (data, fuzz_data, 400),
    "clusters": (mutated(clusters), fuzz_files, 300),
    "arguments": (arguments, fuzz_arguments, 250),
    "names": (texts, fuzz_names, 100),
    "records": (records, fuzz_records, 100),
}
_QUIET = list(HealthCheck)


def _fuzzed(name: str, folder: Path, **options: Any) -> Callable[[], None]:
    strategy, check, _ = FUZZERS[name]

    @settings(deadline=None, database=None, suppress_health_check=_QUIET, **options)
    @given(strategy)
    def fuzzed(drawn: Any) -> None:
        check(drawn, folder)

    return fuzzed


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZERS)
def test_every_input_has_an_answer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _fuzzed(name, tmp_path, derandomize=True, max_examples=FUZZERS[name][2])()


@pytest.mark.long
@pytest.mark.timeout(5000)
@pytest.mark.parametrize("name", FUZZERS)
def test_every_input_has_an_answer_for_an_hour(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    end = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "3600")) / len(FUZZERS)
    first = int(os.environ.get("FUZZ_SEED", random.SystemRandom().randrange(2**32)))
    number = first
    while time.monotonic() < end:
        print(f"FUZZ_SEED={number} fuzzes {name}")
        seeded(number)(_fuzzed(name, tmp_path, max_examples=200))()
        number += 1
