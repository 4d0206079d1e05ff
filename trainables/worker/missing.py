"""What of a trial is left to do: it goes on from the last stage that is stored, whatever is missing before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from trainables.method.phases import Measure, Rewind, Train
from trainables.recipes.trial import KeyedPhase


def origin(step: KeyedPhase, chain: Sequence[KeyedPhase]) -> tuple[KeyedPhase, tuple[int, ...]] | None:
    """Return the step whose state a rewind takes values from, and the snapshot of it; None where there is none."""
    if not isinstance(step.phase, Rewind) or step.phase.to == "random":
        return None
    if step.phase.to == "init":
        return chain[0], ()
    first = next(other for other in chain if isinstance(other.phase, Train))
    return first, (step.phase.to,) if isinstance(step.phase.to, int) else ()


def followed(step: KeyedPhase, chain: Sequence[KeyedPhase]) -> tuple[KeyedPhase, KeyedPhase] | None:
    """Return the training that a step follows directly and the first of the chain; None where there are no two."""
    own = next((other for other in chain if other.key == step.parent and isinstance(other.phase, Train)), None)
    first = next((other for other in chain if isinstance(other.phase, Train)), None)
    return None if own is None or first is None or own is first else (own, first)


def kept_of(step: KeyedPhase, epochs: Sequence[int]) -> tuple[int, ...]:
    """Return those of the epochs whose weights a training stores on its way."""
    return tuple(epoch for epoch in epochs if isinstance(step.phase, Train) and epoch in step.phase.kept)


def missing(
    chain: Sequence[KeyedPhase],
    stored: Callable[[KeyedPhase, Iterable[int]], bool],
    measured: Callable[[KeyedPhase], bool],
    follows: Sequence[int] | None = None,
) -> frozenset[str]:
    """Return the keys of the steps that have to be computed so that every measurement can be made.

    `stored` says whether a step's state is there, with these snapshots; `measured` whether a point is. `follows` are
    the epochs of which a measurement needs the snapshots of its training and of the first, None if it needs neither.
    """
    by_key = {step.key: step for step in chain if not isinstance(step.phase, Measure)}
    left: set[str] = set()

    def need(step: KeyedPhase, snapshots: tuple[int, ...] = ()) -> None:
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
            if follows is not None and (pair := followed(step, chain)):
                for other in pair:
                    need(other, kept_of(other, follows))
    return frozenset(left)
