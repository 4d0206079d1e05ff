"""What a launch leaves on the screen: the front, then how it ended."""

from __future__ import annotations

import sys

from search.cli.console import show_front
from search.files.messages import emit, failed, say
from search.results.status import status
from search.results.study import Ending, Study


def show_ending(name: str, study: Study | None, ending: Ending, as_json: bool) -> None:
    """Print the front, then how the launch ended as the last line."""
    if as_json:
        ended = failed(ending.message, ending.exit_code)
        state = status(study).plain() if study else None
        front = study.table("front").to_pylist() if study else []
        emit({"study": name, "message": ending.message, **ended, "status": state, "front": front})
    elif study:
        show_front(study)
        sys.stdout.flush()
    say(ending.message)
