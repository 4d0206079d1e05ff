"""What a person sees and decides of a launch that runs in a job on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.cli.root import answer
from search.files import interrupts
from search.files.messages import say

if TYPE_CHECKING:
    from search.launch.carry import Choice
    from search.launch.plan import Plan


def refuse_local(detach: bool, render: Path | None) -> None:
    """Refuse options of jobs where the launch is none.

    Raises:
        UsageError: names the option.
    """
    if detach or render is not None:
        option = "--detach" if detach else "--render"
        raise click.UsageError(f"{option} is for clusters that run a launch as a job, such as `kind: slurm`")


def render(plan: Plan, directory: Path, as_json: bool) -> None:
    """Write what would be submitted."""
    from search.launch import carry
    from search.results.exporters.output import write_output

    files = carry.carrier_of(plan).files()
    written = [str(write_output(text.encode(), directory / name)) for name, text in files.items()]
    facts = {"study": plan.spec.name, "written": written}
    answer(as_json, facts, lambda: print(*written, sep="\n"))
    say("nothing was submitted")


def detach(plan: Plan, as_json: bool) -> None:
    """Submit, and say how the job is watched and ended."""
    from search.cluster.watchdog import Interrupt
    from search.launch import carry

    with Interrupt(signal=interrupts.noted()).caught():  # Until the job is recorded.
        job = carry.submit(plan, say)
    commands = carry.commands(plan.storage)
    facts = {"study": plan.spec.name, "job": asdict(job), "next": list(commands)}
    answer(as_json, facts, lambda: print(job.id))
    say("next:\n" + "\n".join(f"  {command}" for command in commands))


def asks(view: Any) -> Callable[[], Choice] | None:
    """Return what asks whether an interrupted launch leaves its job alone or stops it; None where nobody can answer."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def ask() -> Choice:
        with getattr(view, "paused", nullcontext)():
            try:
                answered = click.prompt(
                    "leave the job running, or stop it?",
                    type=click.Choice(["detach", "stop"]),
                    default="detach",
                    err=True,
                )
            except (click.Abort, KeyboardInterrupt):
                return "detach"
        return "stop" if answered == "stop" else "detach"

    return ask
