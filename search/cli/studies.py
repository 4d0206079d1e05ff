"""The built-in studies."""

from __future__ import annotations

import click

from search.cli.root import Command, Group, answer, examples, json_option


@click.group(
    cls=Group, invoke_without_command=True, epilog=examples("studies", "studies show quickstart > my-study.yaml")
)
@json_option
@click.pass_context
def studies(context: click.Context, as_json: bool) -> None:
    """List the built-in studies, or print one of them to copy."""
    if context.invoked_subcommand is not None:
        return
    from search.cli.console import show_facts
    from search.study import file as study_file

    found = {name: study_file.builtin_description(name) for name in study_file.builtin_names()}
    facts = {"studies": [{"name": name, "description": text} for name, text in found.items()]}
    answer(as_json, facts, lambda: show_facts(found))


@studies.command("show", cls=Command, epilog=examples("studies show quickstart > my-study.yaml"))
@click.argument("builtin", metavar="NAME")
@json_option
def show(builtin: str, as_json: bool) -> None:
    """Print the YAML of a built-in study."""
    from search.study import file as study_file

    text = study_file.builtin_text(builtin)
    resolved = study_file.load(builtin).resolved()
    answer(as_json, {"name": builtin, "yaml": text, "study": resolved}, lambda: print(text, end=""))
