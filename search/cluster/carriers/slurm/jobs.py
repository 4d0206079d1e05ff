"""What Slurm says of a job, and what that means."""

from __future__ import annotations

import re

from search.cluster.carriers.base import State
from trainables.core.errors import ExitCode

REASONS = {
    "Priority": "jobs with a higher priority come first",
    "Resources": "nodes have to become free",
    "Dependency": "another job has to end first",
    "DependencyNeverSatisfied": "the job it depends on has failed: it will never start",
    "BeginTime": "Slurm holds it back for a moment, as after a requeue",
    "JobHeldUser": "held: `scontrol release` lets it start",
    "JobHeldAdmin": "held by an administrator",
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved, as for maintenance",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "PartitionTimeLimit": "`time` is over the limit of the partition: it will never start",
    "PartitionNodeLimit": "`nodes` is over the limit of the partition: it will never start",
    "PartitionConfig": "the partition does not allow what is asked for: it will never start",
    "BadConstraints": "no node has what is asked for: it will never start",
    "NodeDown": "a node that it needs is down",
    "Reservation": "it waits for its reservation",
    "Licenses": "it waits for a licence",
    "InvalidAccount": "Slurm no longer knows its account",
    "InvalidQOS": "Slurm no longer knows its QoS",
    "launch_failed_requeued_held": "a node failed to start it: held; `scontrol release` lets it start",
    "JobLaunchFailure": "a node failed to start it",
    "BadUserEnvironment": "the user's environment could not be read on the node",
    "RaisedSignal": "a signal ended it",
    "TimeLimit": "the time limit ended it",
    "NodeFail": "a node failed",
    "OutOfMemory": "it used more memory than `memory_per_node`",
}
"""Slurm's reasons that need words; those of limits are made of their parts."""

LIMITED = {
    "Jobs": "jobs at once",
    "SubmitJob": "jobs submitted",
    "Cpu": "cores",
    "GRES": "GPUs",
    "Gres": "GPUs",
    "Node": "nodes",
    "Mem": "memory",
    "Wall": "time",
    "Minutes": "hours of compute left",
    "Billing": "budget",
    "Time": "time",
}
"""What a limit is of, by a part of the name of a reason such as `QOSMaxJobsPerUserLimit` or `AssocGrpGRES`."""

SILENT = ("None", "NonZeroExitCode", "")
WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
STARTING = ("CONFIGURING",)
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
ENDED = {
    "COMPLETED": "",
    "FAILED": "",
    "CANCELLED": "cancelled",
    "TIMEOUT": "the time limit ended it",
    "PREEMPTED": "preempted, and not requeued",
    "OUT_OF_MEMORY": "it used more memory than `memory_per_node`",
    "DEADLINE": "its deadline has passed",
}
"""States of a job whose end is that of its script or of Slurm's choice; of all others, nodes were lost."""

INTERRUPTED = ("CANCELLED", "TIMEOUT", "PREEMPTED")
"""Ends of a job whose launch was told to end and saved: it resumes."""


def fields(text: str) -> dict[str, str]:
    """Split what `scontrol show job --oneliner` prints; the first value of each key counts, and paths have spaces."""
    found: dict[str, str] = {}
    for name, value in re.findall(r"(?:^|\s)([A-Za-z][\w/:]*)=(.*?)(?=\s+[A-Z][\w/:]*=|\s*$)", text):
        found.setdefault(name, value)
    return found


def state(text: str) -> State:
    """Return a job's state from what `scontrol show job --oneliner` prints."""
    job = fields(text)
    now, reason = job.get("JobState", ""), reason_text(job.get("Reason", "None"))
    if now in WAITING:
        return State("queued", f"in partition {job.get('Partition', '?')}{f' ({reason})' if reason else ''}")
    if now in STARTING or now in RUNNING:
        suspended = ", suspended" if now in ("SUSPENDED", "STOPPED") else ""
        started = job.get("Restarts", "0")
        again = f", start {int(started) + 1}" if started.isdigit() and started != "0" else ""
        return State("starting" if now in STARTING else "running", f"on {job.get('NodeList') or '?'}{again}{suspended}")
    if now in ENDED:
        return State("ended", ENDED[now] or reason, _code(now, job.get("ExitCode", "")))
    return State("lost", f"{now or 'no state'}{f' ({reason})' if reason else ''}")


def _code(now: str, shown: str) -> int | None:
    """Return the exit code of the launch from `CODE:SIGNAL`; what Slurm interrupted counts as interrupted."""
    if now in INTERRUPTED:
        return int(ExitCode.TERMINATED)
    code, _, ended_by = shown.partition(":")
    return int(code) if code.isdigit() and ended_by in ("", "0") and now in ("COMPLETED", "FAILED") else None


def reason_text(reason: str) -> str:
    """Return a reason by Slurm's name for it, with words where the name alone does not say it."""
    name = reason.partition(",")[0].strip("()")
    if name in SILENT:
        return ""
    if name in REASONS:
        return f"{name}: {REASONS[name]}"
    if re.match("QOS|Assoc|MaxJobs|Max.*PerAccount", name):
        whose = "the QoS" if name.startswith("QOS") else "the account"
        what = next((f": {text}" for part, text in LIMITED.items() if part in name), "")
        if re.search("PerJob|PerNode|QOSMin", name):
            return f"{name}: outside of what {whose} allows a job{what}; it will never start"
        return f"{name}: a limit of {whose} is reached{what}"
    return reason.strip("()").replace("_", " ")
