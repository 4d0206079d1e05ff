"""The configuration of a trial for its worker, as plain data; see `trainables.worker.job.Job`."""

from __future__ import annotations

from typing import Any

from search.cluster.base import Cluster
from search.launch.driver import Driver
from trainables.core.spec import plain
from trainables.store.records import TrialRecord
from trainables.store.storage import Address


def common_config(driver: Driver, cluster: Cluster, storage: Address) -> dict[str, Any]:
    """Return what all trials of a launch have in common; `storage` is the address of the study's directory."""
    common: dict[str, Any] = {"storage": storage, "resources": cluster.resources}
    common["timeouts"] = plain(driver.spec.timeouts)
    if (schedule := driver.spec.early_stopping.partial_schedule()) is not None:
        common["partial_schedule"] = plain(schedule)
    return common


def trial_config(driver: Driver, record: TrialRecord, common: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a trial that starts now."""
    screen = driver.screen()
    return {
        "number": record.number,
        "study": record.study,
        "title": title(record),
        "params": record.params,
        "spec": record.spec,
        "fingerprint": driver.records.fingerprint.data_hash,
        **common,
        **({"screen": screen} if screen else {}),
    }


def title(record: TrialRecord) -> str:
    """Return a trial's name for the dashboard: its number and parameters."""
    settings = (
        f"{path.rsplit('.', 1)[-1]}={value:.4g}" if isinstance(value, float) else f"{path.rsplit('.', 1)[-1]}={value}"
        for path, value in record.params.items()
    )
    return f"{record.study}-{record.number:05d} {' '.join(settings)}".strip()
