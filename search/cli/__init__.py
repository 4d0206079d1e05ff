"""The command line: click and what a terminal shows, nothing else.

It loads torch, Ray, Optuna and the rest only where a command needs them.
"""

from __future__ import annotations

from search.cli import (
    benchmark_entry,
    compare,
    confirm,
    launch,
    maintenance,
    monitoring,
    optuna_storage,
    report,
    reproduce,
    results,
    studies,
    watch,
)
from search.cli.root import add, main

add(main, (launch.launch, reproduce.reproduce, launch.validate, launch.init, launch.stop))
add(main, (results.status, results.front, results.export, results.plot, results.model))
add(main, (watch.watch, compare.compare, report.report))
add(main, (optuna_storage.optuna,))
add(main, (confirm.confirm, benchmark_entry.benchmark_entry))
add(main, (studies.studies, maintenance.doctor, maintenance.repair, maintenance.gc))
add(main, (monitoring.monitoring,))

__all__ = ["main"]
