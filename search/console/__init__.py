"""The console script `robustsearch`, and `python -m search.console`."""

from __future__ import annotations

import gc

from search.files import interrupts


def main() -> None:
    """Run the command line as a process of its own, which ends with the command."""
    interrupts.install()  # Before everything that takes time to import.
    from search.cli import main as command

    interrupts.loaded()
    try:
        command()
    except KeyboardInterrupt:  # Between the command's last line and its end.
        interrupts.end()
    finally:
        gc.freeze()  # The interpreter would look through all that was imported before it ends: half a second.
