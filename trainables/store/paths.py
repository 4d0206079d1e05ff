"""Every name on disk, relative to a storage or to a study's directory in it."""

from __future__ import annotations

from trainables.core.atomic import TEMPORARY as TEMPORARY

STUDY = "study.yaml"
STUDY_COPY = "study.copy.yaml"
DRIVER = "driver.json"
LIVE = "live.json"
STOP = "stop.request"
WARM_START = "warm_start.json"
TRIALS = "trials"
STAGES = "stages"
STAGE_LEASES = ".flight"
EXPORTS = "exports"
CONFIRM = "confirm"
CARRIER = "carrier"
JOB = f"{CARRIER}/job.json"
SUBMITTED = f"{CARRIER}/study.yaml"
TRIAL = "trial.json"
OUTCOME = "outcome.json"
WORKER_REPORT = "worker.json"
STATE = "state.safetensors"
STAGE = "stage.json"
CURVE = "curve.json"
POINT = "point.json"
DAMAGED = ".damaged-"
PROBE = "probe-"
PROGRESS = "progress-"


def trial(number: int) -> str:
    """Return a trial's directory; the numbers sort as text."""
    return f"{TRIALS}/{number:05d}"


def trial_record(number: int) -> str:
    """Return where a trial is described before it starts."""
    return f"{trial(number)}/{TRIAL}"


def outcome(number: int) -> str:
    """Return where a trial's outcome is recorded."""
    return f"{trial(number)}/{OUTCOME}"


def worker_report(number: int) -> str:
    """Return where the supervisor of a worker says why that died or was ended; the driver reads and deletes it."""
    return f"{trial(number)}/{WORKER_REPORT}"


def stage(key: str) -> str:
    """Return the directory of a stored stage."""
    return f"{STAGES}/{key}"


def stage_lease(key: str) -> str:
    """Return the lease of the process that computes a stage, in the storage around all studies: they share the work."""
    return f"{STAGE_LEASES}/{key}.json"


def point(key: str) -> str:
    """Return where a stored measurement is."""
    return f"{stage(key)}/{POINT}"


def begun_confirmation(weights: str, examples: str, attack: str) -> str:
    """Return where the first part of a result is, until it is whole."""
    return f"{confirmation(weights, examples, attack)}.part"


def confirmation(weights: str, examples: str, attack: str) -> str:
    """Return where the result of one attack on a network is, on the `examples` of the test split, such as `all`."""
    return f"{CONFIRM}/{weights}/{examples}/{attack}.json"
