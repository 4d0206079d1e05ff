"""States of jobs, as Slurm 22.05 printed them."""

from __future__ import annotations

import pytest

from search.cluster.carriers.base import State
from search.cluster.carriers.slurm import jobs

SHOWN = (
    "JobId=2 JobName=robustsearch-tiny UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=4294901758 Nice=0 "
    "Account=(null) QOS=(null) JobState={state} Reason={reason} Dependency=(null) Requeue=1 Restarts={restarts} "
    "BatchFlag=1 Reboot=0 ExitCode={code} RunTime=00:00:10 TimeLimit=01:00:00 TimeMin=N/A "
    "SubmitTime=2026-11-29T02:41:44 EligibleTime=2026-11-29T02:41:44 AccrueTime=2026-11-29T02:41:44 "
    "StartTime=2026-11-29T02:41:47 EndTime=2026-11-29T02:41:57 Deadline=N/A SuspendTime=None SecsPreSuspend=0 "
    "LastSchedEval=2026-11-29T02:41:47 Scheduler=Main Partition=main AllocNode:Sid=n1:0 ReqNodeList=(null) "
    "ExcNodeList=(null) NodeList={nodes} NumNodes=2 NumCPUs=8 NumTasks=2 CPUs/Task=4 ReqB:S:C:T=0:0:*:* "
    "TRES=cpu=8,mem=4000M,node=2,billing=8 Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=* Features=(null) "
    "OverSubscribe=OK Contiguous=0 Licenses=(null) Network=(null) Command=(null) WorkDir=/shared/my project "
    "Comment=robustsearch-e4381583  StdErr=/shared/my runs/tiny/carrier/slurm-2.log StdIn=/dev/null "
    "StdOut=/shared/my runs/tiny/carrier/slurm-2.log Power= \n"
)


def shown(state: str, reason: str = "None", *, restarts: int = 0, code: str = "0:0", nodes: str = "n[1-2]") -> str:
    return SHOWN.format(state=state, reason=reason, restarts=restarts, code=code, nodes=nodes)


@pytest.mark.parametrize(
    ("text", "state", "said"),
    [
        (
            shown("PENDING", "Resources", nodes=""),
            State("queued", "in partition main (Resources: nodes have to become free)"),
            "queued in partition main (Resources: nodes have to become free)",
        ),
        (
            shown("PENDING", "BeginTime", restarts=1, nodes=""),
            State("queued", "in partition main (BeginTime: Slurm holds it back for a moment, as after a requeue)"),
            None,
        ),
        (shown("PENDING", nodes=""), State("queued", "in partition main"), "queued in partition main"),
        (shown("CONFIGURING"), State("starting", "on n[1-2]"), "starting on n[1-2]"),
        (shown("RUNNING"), State("running", "on n[1-2]"), "running on n[1-2]"),
        (shown("RUNNING", restarts=2), State("running", "on n[1-2], start 3"), None),
        (shown("SUSPENDED"), State("running", "on n[1-2], suspended"), None),
        (shown("COMPLETED"), State("ended", "", 0), "ended with exit code 0"),
        (shown("FAILED", "NonZeroExitCode", code="5:0"), State("ended", "", 5), "ended with exit code 5"),
        (
            shown("FAILED", "JobLaunchFailure", code="0:9"),
            State("ended", "JobLaunchFailure: a node failed to start it", None),
            None,
        ),
        (shown("CANCELLED", code="143:0"), State("ended", "cancelled", 143), "ended with exit code 143 cancelled"),
        (shown("CANCELLED", "BeginTime", restarts=1), State("ended", "cancelled", 143), None),
        (shown("TIMEOUT", "TimeLimit", code="0:15"), State("ended", "the time limit ended it", 143), None),
        (shown("NODE_FAIL", "NodeDown"), State("lost", "NODE_FAIL (NodeDown: a node that it needs is down)"), None),
        ("", State("lost", "no state"), None),
    ],
)
def test_a_state_is_read(text: str, state: State, said: str | None) -> None:
    assert jobs.state(text) == state
    assert said is None or str(state) == said


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("Priority", "Priority: jobs with a higher priority come first"),
        ("QOSMaxJobsPerUserLimit", "QOSMaxJobsPerUserLimit: a limit of the QoS is reached: jobs at once"),
        ("QOSMaxSubmitJobPerUserLimit", "QOSMaxSubmitJobPerUserLimit: a limit of the QoS is reached: jobs submitted"),
        ("AssocGrpCpuLimit", "AssocGrpCpuLimit: a limit of the account is reached: cores"),
        ("AssocGrpCPUMinutesLimit", "AssocGrpCPUMinutesLimit: a limit of the account is reached: hours of compute"),
        ("QOSMaxGRESPerUser", "QOSMaxGRESPerUser: a limit of the QoS is reached: GPUs"),
        ("AssocMaxWallDurationPerJobLimit", "outside of what the account allows a job: time; it will never start"),
        ("QOSMinCpuNotSatisfied", "outside of what the QoS allows a job: cores; it will never start"),
        ("QOSMaxGRESPerNode", "outside of what the QoS allows a job: GPUs; it will never start"),
        ("MaxJobsPerAccount", "MaxJobsPerAccount: a limit of the account is reached: jobs at once"),
        ("ReqNodeNotAvail,_UnavailableNodes:n3", "ReqNodeNotAvail: nodes that it needs are down, drained or reserved"),
        ("PartitionTimeLimit", "it will never start"),
        ("BadConstraints", "it will never start"),
        ("(Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved)", "Nodes required for job are DOWN, DRAINED or"),
        ("launch_failed_requeued_held", "`scontrol release` lets it start"),
        ("SomethingNew", "SomethingNew"),
        ("None", ""),
    ],
)
def test_a_reason_is_said_in_words(reason: str, said: str) -> None:
    assert said in jobs.reason_text(reason)
    assert bool(said) == bool(jobs.reason_text(reason))


def test_paths_with_spaces_are_whole() -> None:
    found = jobs.fields(shown("RUNNING"))
    assert found["StdOut"] == "/shared/my runs/tiny/carrier/slurm-2.log"
    assert found["WorkDir"] == "/shared/my project"
    assert found["Comment"] == "robustsearch-e4381583"
