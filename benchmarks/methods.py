"""The compared methods, by name, with their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from curves import Curves
from ours import Ours, Parts
from rivals import SHORT, BoTorch, Ladders, Moasha, Optuna, TuneOptuna
from simulator import MOST_TRIALS, Ledger, Method

from search.early_stopping.moasha import Moasha as Halving
from search.early_stopping.reach import Reach
from search.samplers.ehvi.sampler import Ehvi
from search.samplers.optuna import RandomSearch, Tpe
from trainables.store.storage import Storage

Build = Callable[[Curves, Ledger, int, Storage, int], Method]


@dataclass(frozen=True)
class Entry:
    """A method: how to start it, whose code it is, and with how many seeds it runs at most.

    Some need tables on which every epoch was measured.
    """

    build: Build
    package: str
    seeds: int = 20
    by_epoch: bool = False


class FewEhvi(Ehvi):
    """The sampler of ours that is shown 20 to 40 points: how large studies look to it, at the size of a table."""

    most: ClassVar[int | None] = 20


class FewTpe(Tpe):
    """TPE that is shown as few."""

    most: ClassVar[int | None] = 20


def _ours(*, by_epoch: bool = False, **changes: Any) -> Entry:
    parts = Parts(**{"sampler": Ehvi(), **changes})

    def build(curves: Curves, ledger: Ledger, seed: int, storage: Storage, workers: int) -> Method:
        return Ours(curves, ledger, parts, seed, storage, workers, trials=MOST_TRIALS)

    return Entry(build, "robustsearch", by_epoch=by_epoch)


def _optuna(sampler: str, *, seeds: int = 20, **options: bool) -> Entry:
    return Entry(lambda curves, ledger, seed, *_: Optuna(curves, ledger, sampler, seed, **options), "optuna", seeds)


def _tune(sampler: str | None, seeds: int = 20) -> Entry:
    return Entry(lambda curves, ledger, seed, *_: TuneOptuna(curves, ledger, sampler, seed), "ray", seeds)


def _botorch(**options: Any) -> Entry:
    return Entry(lambda curves, ledger, seed, *_: BoTorch(curves, ledger, seed, **options), "botorch")


def _moasha(resource: str, grace: int, factor: float, brackets: int = 1) -> Entry:
    return Entry(
        lambda curves, ledger, seed, *_: Moasha(curves, ledger, seed, resource, grace, factor, brackets),
        "syne-tune",
        by_epoch=resource == "epochs",
    )


METHODS: dict[str, Entry] = {
    # (a)
    "random": _optuna("random"),
    "random-full-ladders": _optuna("random", full=True),
    # (b)
    "tune-optuna": _tune(None),
    "tune-optuna-multivariate": _tune("tpe"),
    "tune-optuna-nsga2": _tune("nsga2"),
    "tune-optuna-gp": _tune("gp", seeds=5),
    # (c)
    "optuna-tpe": _optuna("tpe"),
    "optuna-nsga2": _optuna("nsga2"),
    "optuna-gp": _optuna("gp"),
    "optuna-tpe-short": _optuna("tpe-short"),
    "optuna-gp-short": _optuna("gp-short"),
    "optuna-tpe-shared": _optuna("tpe-short", shared=True),
    "optuna-gp-shared": _optuna("gp-short", shared=True),
    "optuna-ladders": Entry(lambda curves, ledger, seed, *_: Ladders(curves, ledger, "tpe", seed), "optuna"),
    "optuna-ladders-short": Entry(
        lambda curves, ledger, seed, *_: Ladders(curves, ledger, "tpe-short", seed), "optuna"
    ),
    "botorch": _botorch(known=False),
    "botorch-known": _botorch(known=True),
    "botorch-known-short": _botorch(known=True, startup=SHORT),
    "botorch-known-shared": _botorch(known=True, startup=SHORT, shared=True),
    # (d)
    "moasha-rounds-1-3": _moasha("rounds", 1, 3),
    "moasha-rounds-1-2": _moasha("rounds", 1, 2),
    "moasha-rounds-2-2": _moasha("rounds", 2, 2),
    "moasha-epochs-3": _moasha("epochs", 10, 3),
    "moasha-epochs-2": _moasha("epochs", 20, 2),
    # (e)
    "ours": _ours(),
    "ours-few": _ours(sampler=FewEhvi()),
    "ours-tpe": _ours(sampler=Tpe()),
    "ours-tpe-few": _ours(sampler=FewTpe()),
    "ours-random": _ours(sampler=RandomSearch()),
    "ours-no-sharing": _ours(sharing=False),
    "ours-no-points": _ours(points=False),
    "ours-no-planning": _ours(planning=False),
    "ours-reach": _ours(early_stopping=Reach(), by_epoch=True),
    "ours-halving": _ours(early_stopping=Halving(), by_epoch=True),
}
