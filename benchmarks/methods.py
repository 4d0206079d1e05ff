"""The compared methods, by name, with their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from curves import Curves
from ours import Ours, Parts
from rivals.ax import Ax
from rivals.base import SHORT
from rivals.botorch import BoTorch
from rivals.optuna import Ladders, Optuna, TuneOptuna
from rivals.syne_tune import Moasha
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

    Some need tables on which every epoch was measured. `shared`: trainings are shared as ours are.
    """

    build: Build
    package: str
    seeds: int = 20
    by_epoch: bool = False
    shared: bool = False


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


def _optuna(sampler: str, *, full: bool = False, shared: bool = False) -> Entry:
    def build(curves: Curves, ledger: Ledger, seed: int, *_: Any) -> Method:
        return Optuna(curves, ledger, sampler, seed, full=full, shared=shared)

    return Entry(build, "optuna", shared=shared)


def _ladders(sampler: str, *, shared: bool = False) -> Entry:
    return Entry(
        lambda curves, ledger, seed, *_: Ladders(curves, ledger, sampler, seed, shared=shared), "optuna", shared=shared
    )


def _tune(sampler: str | None, seeds: int = 20) -> Entry:
    return Entry(lambda curves, ledger, seed, *_: TuneOptuna(curves, ledger, sampler, seed), "ray", seeds)


def _botorch(*, shared: bool = False, **options: Any) -> Entry:
    return Entry(
        lambda curves, ledger, seed, *_: BoTorch(curves, ledger, seed, shared=shared, **options),
        "botorch",
        shared=shared,
    )


def _ax(*, shared: bool = False, startup: int | None = None) -> Entry:
    return Entry(
        lambda curves, ledger, seed, *_: Ax(curves, ledger, seed, startup=startup, shared=shared),
        "ax-platform",
        shared=shared,
    )


def _moasha(resource: str, grace: int, factor: float, *, shared: bool = False) -> Entry:
    return Entry(
        lambda curves, ledger, seed, *_: Moasha(curves, ledger, seed, resource, grace, factor, shared=shared),
        "syne-tune",
        by_epoch=resource == "epochs",
        shared=shared,
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
    "optuna-nsga2-shared": _optuna("nsga2", shared=True),
    "optuna-ladders": _ladders("tpe"),
    "optuna-ladders-short": _ladders("tpe-short"),
    "optuna-ladders-shared": _ladders("tpe-short", shared=True),
    "botorch": _botorch(known=False),
    "botorch-short": _botorch(known=False, startup=SHORT),
    "botorch-shared": _botorch(known=False, startup=SHORT, shared=True),
    "botorch-known": _botorch(known=True),
    "botorch-known-short": _botorch(known=True, startup=SHORT),
    "botorch-known-shared": _botorch(known=True, startup=SHORT, shared=True),
    "botorch-known-weighted": _botorch(known=True, startup=SHORT, shared=True, weighted=True),
    "ax": _ax(),
    "ax-short": _ax(startup=SHORT),
    "ax-shared": _ax(startup=SHORT, shared=True),
    # (d)
    "moasha-rounds-1-3": _moasha("rounds", 1, 3),
    "moasha-rounds-1-2": _moasha("rounds", 1, 2),
    "moasha-rounds-2-2": _moasha("rounds", 2, 2),
    "moasha-rounds-shared": _moasha("rounds", 2, 2, shared=True),
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
