"""The command that watches a search: in the terminal, as lines, or as a page for the browser."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from search.cli.root import Command, answer, examples, name_argument, opened, storage_options
from search.files import interrupts
from search.files.messages import emit, say
from search.store.catalogue import DEFAULT_STORAGE
from trainables.core.errors import ExitCode

if TYPE_CHECKING:
    from search.launch.view import PlainView
    from search.results.watching import Seen, Watched

LOOK_EVERY = 1.0
"""Seconds between two looks at the study."""
LINE_EVERY = 30.0
"""Seconds after which a line is printed although no trial has ended."""


@click.command(
    cls=Command, epilog=examples("watch quickstart", "watch quickstart --web", "watch quickstart --once --json")
)
@name_argument
@click.option("--once", is_flag=True, help="Print the current state, and end.")
@click.option("--web", is_flag=True, help="Serve the report to browsers on this machine, refreshed while trials run.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port of the page [default: a free one].")
@storage_options
def watch(name: str, once: bool, web: bool, port: int | None, storage: str | None, as_json: bool) -> int:
    """Watch a search: the running trials, the front, the hypervolume, and the time left.

    It only reads, from any machine that sees the storage, and it ends with the launch. It waits for a study that has
    not been launched yet. Without a terminal it prints a line for each trial that ends.
    """
    from search.results.watching import Watched
    from trainables.store.storage import Storage

    if port is not None and not web:
        raise click.UsageError("--port is that of the page; add --web")
    if web and once:
        raise click.UsageError("--once and --web exclude each other")
    if (once or as_json) and not web:
        return _once(name, storage, as_json)
    watched = Watched(Storage(storage or DEFAULT_STORAGE), name)
    try:
        return _serve(watched, port, as_json) if web else _watch(watched)
    except KeyboardInterrupt:
        say(f"stopped watching {name}; the search is not affected")
        return ExitCode.of_signal(interrupts.noted() or 2)


def _once(name: str, storage: str | None, as_json: bool) -> int:
    from search.cli.summaries import show_progress
    from search.results.status import status

    state = status(opened(storage, name, complete=False))
    assert state.progress is not None
    now = state.progress
    answer(as_json, state.plain(), lambda: show_progress(now))
    return ExitCode.DONE


def _watch(watched: Watched) -> int:
    from search.cli.progress import Screen, live_console
    from search.cli.summaries import show_progress
    from search.launch.view import PlainView

    console = live_console(sys.stdout)
    if console is None:
        last = _until_over(watched, _lines(PlainView(sys.stdout, LINE_EVERY)))
    else:
        with Screen(console) as screen:
            last = _until_over(watched, screen.show)
    if last.snapshot is not None:
        show_progress(last.snapshot)
    sys.stdout.flush()
    say(last.note)
    return ExitCode.DONE


def _lines(view: PlainView) -> Callable[[Seen], None]:
    """Return what prints lines: a snapshot where it is new, a note where it has changed."""
    said = [""]

    def show(seen: Seen) -> None:
        if seen.snapshot is not None and not seen.over:
            view(seen.snapshot)
        elif seen.note not in (said[0], "") and not seen.over:
            say(seen.note)
        said[0] = seen.note

    return show


def _until_over(watched: Watched, show: Callable[[Seen], None]) -> Seen:
    """Show the study about once a second until no launch runs; return what was seen last."""
    while True:
        seen = watched.look()
        show(seen)
        if seen.over:
            return seen
        time.sleep(LOOK_EVERY)


def _serve(watched: Watched, port: int | None, as_json: bool) -> int:
    from search.results.serve import serving

    with serving(watched, port) as server:
        if as_json:
            emit({"study": watched.name, "url": server.url})
        else:
            print(server.url)
        sys.stdout.flush()
        say(f"{watched.name} is shown there, to this machine only; Ctrl-C ends it")
        server.serve_forever()
    return ExitCode.DONE
