"""Help texts, and what all commands have in common."""

from __future__ import annotations

import re

import click
import pytest

from search.cli import main
from tests.search.command import run


def commands() -> list[tuple[str, click.Command]]:
    found = dict(main.commands)
    group = found["studies"]
    assert isinstance(group, click.Group)
    return [*found.items(), *((f"studies {name}", command) for name, command in group.commands.items())]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_list_of_commands_has_whole_sentences(columns: int) -> None:
    text = " ".join(run("--help", COLUMNS=str(columns)).stdout.split())
    for command in main.commands.values():
        assert command.help is not None
        sentence = " ".join(command.help.partition("\n\n")[0].split())
        assert sentence in text


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_explains_its_arguments_and_gives_an_example(name: str) -> None:
    command = dict(commands())[name]
    text = run(*name.split(), "--help").stdout
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    explained = re.findall(r"^  ([A-Z]+) +\w", text.partition("Arguments:")[2].partition("\n\n")[0], re.M)
    assert len(explained) == len(arguments)
    assert re.search(rf"^  Examples?:\n    robustsearch {name}", text, re.M)
    for option in command.params:
        assert isinstance(option, click.Argument) or getattr(option, "help", None), option.name


def test_the_help_of_launch_says_how_to_resume_and_monitor() -> None:
    text = run("launch", "--help").stdout
    assert all(word in text for word in ("resume", "checkpoint", "Monitor"))
