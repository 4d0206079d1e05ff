"""What is left to compute of a trial: it resumes from the last stored stage, whatever is missing before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from trainables.method.phases import Measure, Rewind, Snapshot, Train
from trainables.recipes.trial import KeyedPhase


def rewind_source(keyed: KeyedPhase, phases: Sequence[KeyedPhase]) -> tuple[KeyedPhase, tuple[int, ...]] | None:
    """Return the phase from whose state a rewind takes values, and the snapshot of it; None where there is none."""
    if not isinstance(keyed.phase, Rewind) or keyed.phase.to == "random":
        return None
    if keyed.phase.to == "init":
        return phases[0], ()
    first = next(other for other in phases if isinstance(other.phase, Train))
    return first, (keyed.phase.to,) if isinstance(keyed.phase.to, int) else ()


def compared_trainings(keyed: KeyedPhase, phases: Sequence[KeyedPhase]) -> tuple[KeyedPhase, KeyedPhase] | None:
    """Return the training that a phase follows directly and the first one; None where these are not two."""
    own = next((other for other in phases if other.key == keyed.parent and isinstance(other.phase, Train)), None)
    first = next((other for other in phases if isinstance(other.phase, Train)), None)
    return None if own is None or first is None or own is first else (own, first)


def stored_snapshots(keyed: KeyedPhase, epochs: Sequence[int]) -> tuple[int, ...]:
    """Return those of the epochs whose weights a training stores before its end."""
    return tuple(epoch for epoch in epochs if isinstance(keyed.phase, Train) and epoch in keyed.phase.stored_epochs)


def missing(
    phases: Sequence[KeyedPhase],
    stored: Callable[[KeyedPhase, Iterable[int]], bool],
    measured: Callable[[KeyedPhase], bool],
    follows: Sequence[int] | None = None,
) -> frozenset[str]:
    """Return the keys of the phases that have to be computed so that every measurement can be made.

    `stored` returns whether a phase's state is stored, with these snapshots; `measured` whether a point is. `follows`
    are the epochs of which a measurement needs the snapshots of its training and of the first, None if it needs none.
    """
    by_key = {keyed.key: keyed for keyed in phases if not isinstance(keyed.phase, Measure)}
    left: set[str] = set()

    def need(keyed: KeyedPhase, snapshots: tuple[int, ...] = ()) -> None:
        if keyed.key in left or stored(keyed, snapshots):
            return
        left.add(keyed.key)
        if keyed.parent is not None:
            need(by_key[keyed.parent], (keyed.phase.epoch,) if isinstance(keyed.phase, Snapshot) else ())
        if source := rewind_source(keyed, phases):
            need(*source)

    for keyed in phases:
        if isinstance(keyed.phase, Measure) and not measured(keyed):
            assert keyed.parent is not None
            left.add(keyed.key)
            need(by_key[keyed.parent])
            if follows is not None and (pair := compared_trainings(keyed, phases)):
                for other in pair:
                    need(other, stored_snapshots(other, follows))
    return frozenset(left)
