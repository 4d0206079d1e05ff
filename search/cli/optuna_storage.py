"""The command that writes a study as an Optuna storage."""

from __future__ import annotations

from pathlib import Path

import click

from search.cli.root import Command, answer, examples, name_argument, opened, storage_options
from search.files.messages import say


@click.command("optuna", cls=Command, epilog=examples("optuna quickstart --output study.db"))
@name_argument
@click.option("--output", type=click.Path(path_type=Path), help="The SQLite file to write [default: NAME-optuna.db].")
@click.option("--force", is_flag=True, help="Replace a file that this command did not write for the same study.")
@storage_options
def optuna(name: str, output: Path | None, force: bool, storage: str | None, as_json: bool) -> None:
    """Write the study for Optuna's own tools: an SQLite file for optuna-dashboard and `optuna.load_study`."""
    from search.results import optuna_storage

    study = opened(storage, name)
    written = optuna_storage.write(study, output or Path(f"{name}-optuna.db"), force=force)
    hint = f"`optuna-dashboard sqlite:///{written}` shows it"
    answer(as_json, {"output": str(written), "study": name}, lambda: say(f"wrote {written}; {hint}"))
