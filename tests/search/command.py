"""The command line in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from search.cli import main


def run(*args: object, **env: str) -> Result:
    """Run a command in this process; its exit code, stdout and stderr are those of the console script."""
    return CliRunner().invoke(main, [str(arg) for arg in args], env={"ROBUSTSEARCH_STORAGE": None, **env})
