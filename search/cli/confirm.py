"""The command that measures what a search found, for publication: confirm."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from search.cli.root import Command, answer, examples, name_argument, storage_options
from search.files import interrupts
from search.files.messages import emit, failed, prints_on_stderr, say
from search.store import catalogue
from trainables.core.errors import ExitCode

if TYPE_CHECKING:
    from search.launch.confirm import ConfirmSnapshot
    from search.launch.confirm_plan import ConfirmPlan
    from search.results.study import Ending


@click.command(
    cls=Command,
    epilog=examples(
        "confirm quickstart",
        "confirm my-study --points front --seeds 3 --cluster clusters/gpu.yaml",
        "confirm my-study --points t17.2 --points t3.1 --examples 500",
    ),
)
@name_argument
@click.option(
    "--points",
    multiple=True,
    default=("near",),
    show_default=True,
    metavar="near|front|paper|POINT",
    help="What to confirm: the front and the points near it, the front alone, the networks of a paper's table, "
    "or one point; repeatable.",
)
@click.option(
    "--examples", type=click.IntRange(min=1), metavar="N", help="The first N of the test split [default: all]."
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    metavar="K",
    help="Total number of training seeds: the front is retrained with K - 1 others.",
)
@click.option("--corruptions", is_flag=True, help="Also measure noisy, blurred, bright and pale images.")
@click.option("--attack", metavar="KIND", default="autoattack", show_default=True, help="The attack that comes first.")
@click.option("--cluster", metavar="FILE", help="Where to measure and retrain, as for `launch` [default: Ray here].")
@click.option("--dry-run", is_flag=True, help="Print what would be measured, and start nothing.")
@storage_options
def confirm(
    name: str,
    points: tuple[str, ...],
    examples: int | None,
    seeds: int,
    corruptions: bool,
    attack: str,
    cluster: str | None,
    dry_run: bool,
    storage: str | None,
    as_json: bool,
) -> int:
    """Measure the front on the test split, under strong attacks and over seeds.

    An example counts as robust if no attack breaks it: AutoAttack, Square, transfer from other networks, a minimum-norm
    attack. Every result is recorded at once, so the same command resumes what was interrupted. Nothing else touches the
    test split: choose by the search's estimates, and confirm once.
    """
    options: dict[str, Any] = {"examples": examples, "seeds": seeds, "attack": attack, "corruptions": corruptions}
    with prints_on_stderr(as_json):
        from search.launch.confirm_plan import plan as check

        plan = check(name, cluster=cluster, storage=storage, points=points, **options)
    for point in plan.missing:
        say(f"{point} is left out: its weights are no longer stored")
    if dry_run:
        from search.cli.console import show_facts
        from search.launch.confirm_plan import plan_data, plan_facts

        answer(as_json, plan_data(plan), lambda: show_facts(plan_facts(plan)))
        return ExitCode.DONE
    from search.cluster.watchdog import Interrupt

    with Interrupt(signal=interrupts.noted()).caught():
        ending = _run(plan, as_json)
        if not as_json and ending.exit_code == ExitCode.DONE:
            say(f"next: robustsearch export {catalogue.arguments(plan.storage)} --what confirmed --format latex")
    return ending.exit_code


def _run(plan: ConfirmPlan, as_json: bool) -> Ending:
    from search.cli.fronts import show_confirmed
    from search.launch import confirm as confirming
    from search.launch.view import PlainView
    from search.results.confirmed import front_of

    say(plan.cluster.opening())
    with prints_on_stderr(as_json), PlainView(sys.stderr) as retraining:
        ending = confirming.confirm(plan, view=ConfirmView(), launch_view=retraining, say=say, owns_process=True)
    limit = "all" if plan.limit is None else plan.limit
    if as_json:
        found = front_of(plan.study, limit)
        emit({"study": plan.spec.name, "message": ending.message, **failed(ending.message, ending.exit_code), **found})
    else:
        show_confirmed(plan.study, limit)
        sys.stdout.flush()
    say(ending.message)
    return ending


@dataclass
class ConfirmView:
    """A line on stderr whenever a network is done, and at least every `every` seconds."""

    every: float = 30.0
    _shown: tuple[str, int, float] | None = field(default=None, init=False)

    def __call__(self, now: ConfirmSnapshot) -> None:
        """Print the snapshot where it says something new."""
        last = self._shown
        if last and last[:2] == (now.doing, now.networks_done) and now.elapsed - last[2] < self.every:
            return
        self._shown = now.doing, now.networks_done, now.elapsed
        say(line(now))


def line(now: ConfirmSnapshot) -> str:
    """Write a snapshot as one line."""
    from search.launch.view import duration

    left = f", about {duration(now.remaining)} left" if now.remaining else ""
    return (
        f"{now.doing}: {now.networks_done}/{now.networks} networks, {now.done}/{now.total} results; "
        f"{duration(now.elapsed)}{left}"
    )
