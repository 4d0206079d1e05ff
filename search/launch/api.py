"""The Python API of a launch, of which the command line is one caller."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search.cluster.base import Cluster
from search.cluster.carriers.base import Remote
from search.files.messages import say
from search.launch import carry, run
from search.launch import plan as planning
from search.launch.plan import Plan
from search.launch.view import PlainView
from search.results.study import Study

View = Callable[[Any], None]
Overrides = str | Sequence[str] | Mapping[str, Any]


def plan(
    study: str | Path | Mapping[str, Any] = "quickstart",
    *,
    cluster: Cluster | Mapping[str, Any] | str | Path | None = None,
    trials: int | str | None = None,
    name: str | None = None,
    storage: str | Path | None = None,
    overrides: Overrides = (),
    allow_change: bool = False,
    dry: bool = True,
) -> Plan:
    """Check what `launch` would run with these arguments, and start nothing; `dry` downloads no data.

    Raises:
        RobustsearchError: what prevents the launch.
    """
    if isinstance(overrides, Mapping):
        overrides = [
            f"{key}={json.dumps(value, default=os.fspath, ensure_ascii=False)}" for key, value in overrides.items()
        ]
    elif isinstance(overrides, str):
        overrides = [overrides]
    options: dict[str, Any] = {"name": name, "trials": trials, "allow_change": allow_change, "dry": dry}
    return planning.plan(study, cluster, storage, overrides, **options)


def launch(
    study: str | Path | Mapping[str, Any] | Plan = "quickstart",
    *,
    cluster: Cluster | Mapping[str, Any] | str | Path | None = None,
    trials: int | str | None = None,
    name: str | None = None,
    storage: str | Path | None = None,
    overrides: Overrides = (),
    allow_change: bool = False,
    wait: float = 0.0,
    view: View | None = None,
    quiet: bool = False,
) -> Study:
    """Run a search, or resume a stored one, and return the study; its `ending` says how the launch ended.

    Args:
        study: a study file, a built-in study, the name of a stored study, what a study file would hold as a mapping,
            or a `Plan`, with which all arguments but `wait`, `view` and `quiet` are given already.
        cluster: a cluster file, the name of a kind ("local", "inline"), the fields of one, or None for this machine.
        trials: how many trials in all; "+20" for 20 more than the stored study has.
        name: run it under another name.
        storage: the directory or URI with the studies; by default as on the command line.
        overrides: changes of the study: `{"recipe.epochs": 20}`, or `["recipe.epochs=20"]`.
        allow_change: change a stored study on purpose.
        wait: how many seconds to wait for another launch of the study, which may be dead, and for room on the cluster.
        view: called with a `search.launch.tally.Snapshot` about once a second, instead of printed lines.
        quiet: print nothing.

    Raises:
        NotStarted: the launch was stopped before there was a study.
        RobustsearchError: the study, the cluster, the data or the storage do not allow the launch.
    """
    arguments: dict[str, Any] = {"cluster": cluster, "trials": trials, "name": name, "storage": storage}
    arguments |= {"overrides": overrides, "allow_change": allow_change}
    if not isinstance(study, Plan):
        study = plan(study, **arguments, dry=False)
    elif surplus := [key for key, value in arguments.items() if value not in (None, (), False)]:
        raise TypeError(f"a plan has its own {', '.join(surplus)}; pass such arguments to search.plan")
    silent = _nothing if quiet else None
    with PlainView(sys.stderr) as lines:
        if isinstance(study.cluster, Remote):
            return carry.launch(study, view=view or silent or lines, say=silent or say)
        return run.launch(study, view=view or silent or lines, say=silent or say, wait=wait)


def _nothing(_: Any) -> None:
    pass
