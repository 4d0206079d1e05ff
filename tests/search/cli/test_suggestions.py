"""Commands that messages suggest: they are complete, and the command line knows their options."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import search
import trainables
from search.cli import main

FOLDERS = [Path(str(package.__file__)).parent for package in (search, trainables)]
NAMED = re.compile(r"`(robustsearch [^`]+)`|^(?:next: )?(robustsearch [a-z].*)")
STANDS = "X"
"""What stands for a value that a message fills in: an argument, or an option with its value."""


def texts(source: ast.AST) -> Iterator[str]:
    """Yield the texts of a module, without docstrings; of formatted ones, with a word for each value."""
    inner = {id(part) for node in ast.walk(source) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    described = {id(node.value) for node in ast.walk(source) if isinstance(node, ast.Expr)}
    for node in ast.walk(source):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else STANDS for part in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (inner | described):
            yield node.value


def suggested() -> list[str]:
    """Return the commands with arguments that are suggested anywhere."""
    found = set()
    for folder in FOLDERS:
        for path in folder.rglob("*.py"):
            for text in texts(ast.parse(path.read_text())):
                found |= {one or other for one, other in NAMED.findall(text)}
    # A command alone is a name in a sentence.
    return sorted(words for words in found if len(words.split()) > 2)


def problem(words: str) -> str | None:
    """Return what is wrong with a command as a person would type it; None where nothing is."""
    _, name, *given = shlex.split(words.partition(" (")[0])
    if name == "COMMAND":
        return None
    command = main.commands.get(name)
    if command is None:
        return f"there is no command {name}"
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
    if unknown := [word for word in given if word.startswith("-") and word not in known]:
        return f"{name} has no {unknown[0]}"
    needed = sum(isinstance(each, click.Argument) and each.required for each in command.params)
    valued = {
        option for each in command.params if isinstance(each, click.Option) and not each.is_flag for option in each.opts
    }
    arguments = [
        word for word, before in zip(given, [None, *given], strict=False) if word[0] != "-" and before not in valued
    ]
    return f"{name} needs {needed} arguments" if len(arguments) < needed and "--help" not in given else None


@pytest.mark.parametrize("words", suggested())
def test_a_suggested_command_can_be_typed(words: str) -> None:
    assert problem(words) is None


@pytest.mark.slow
def test_the_suggestions_are_found() -> None:
    found = suggested()
    assert len(found) > 15
    assert "robustsearch front X --confirmed" in found
    assert "robustsearch export X --what trials" in found


@pytest.mark.parametrize(
    "words", ["robustsearch front --confirmed", "robustsearch frnt X", "robustsearch front X --confirm"]
)
def test_faults_would_be_found(words: str) -> None:
    assert problem(words) is not None
