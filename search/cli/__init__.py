"""The command line: click and what a terminal shows, nothing else."""

from __future__ import annotations

from search.cli.commands import main

__all__ = ["main"]
