"""What of a trial is left to do: it goes on from the last stage that is stored, whatever is missing before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from trainables.phases import Measure, Rewind, Train
from trainables.spec import Step


def origin(step: Step, chain: Sequence[Step]) -> tuple[Step, tuple[int, ...]] | None:
    """Return the step whose state a rewind takes values from, and the snapshot of it; None where there is none."""
    if not isinstance(step.phase, Rewind) or step.phase.to == "random":
        return None
    if step.phase.to == "init":
        return chain[0], ()
    first = next(other for other in chain if isinstance(other.phase, Train))
    return first, (step.phase.to,) if isinstance(step.phase.to, int) else ()


def missing(
    chain: Sequence[Step], stored: Callable[[Step, Iterable[int]], bool], measured: Callable[[Step], bool]
) -> frozenset[str]:
    """Return the keys of the steps that have to be computed so that every measurement can be made.

    `stored` says whether a step's state is there, with these snapshots; `measured` whether a point is.
    """
    by_key = {step.key: step for step in chain if not isinstance(step.phase, Measure)}
    left: set[str] = set()

    def need(step: Step, snapshots: tuple[int, ...] = ()) -> None:
        if step.key in left or stored(step, snapshots):
            return
        left.add(step.key)
        if step.parent is not None:
            need(by_key[step.parent])
        if found := origin(step, chain):
            need(*found)

    for step in chain:
        if isinstance(step.phase, Measure) and not measured(step):
            assert step.parent is not None
            left.add(step.key)
            need(by_key[step.parent])
    return frozenset(left)
