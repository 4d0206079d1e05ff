"""What Ray says of a process that died, and how long the report of its supervisor is waited for."""

from __future__ import annotations

from search.launch.tune import LOST_SECONDS, REPORT_SECONDS, crash, report_seconds

DIED = """
Failure # 1 (occurred at 2026-11-29_21-00-00)
The actor died unexpectedly before finishing this task.
\tclass_name: RobustsearchTrial
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed.
"""
UNAVAILABLE = """
Failure # 1 (occurred at 2026-11-29_21-00-00)
The actor e665a3 is unavailable: The actor is temporarily unavailable: RpcError: RPC error: Socket closed rpc_code: 14.
"""
RAISED = """
Failure # 1 (occurred at 2026-12-01_21-00-00)
ray::RobustsearchTrial.train() (pid=4227, ip=10.0.0.1, actor_id=7, repr=<RobustsearchTrial>)
  File "worker/job.py", line 100, in work
    raise error
trainables.core.errors.NoDevice: a trial was given 1 GPUs on node-7, but torch 2.11 sees none there
"""
OUT_OF_MEMORY = """
Failure # 1 (occurred at 2026-11-29_21-00-00)
Task was killed due to the node running low on memory.
"""


def test_the_last_failure_that_ray_tells_of_is_put_in_a_line() -> None:
    failure = crash(UNAVAILABLE + DIED.replace("# 1", "# 2"))
    assert (failure.kind, failure.message) == (
        "crashed",
        "its process died: Worker unexpectedly exits with a connection error code 2",
    )
    assert "Socket closed" not in failure.traceback
    raised = "NoDevice: a trial was given 1 GPUs on node-7, but torch 2.11 sees none there"
    assert crash(RAISED).message == f"its process died: {raised}"
    assert crash(UNAVAILABLE).message.startswith("its process died: The actor e665a3 is unavailable: ")
    assert crash(OUT_OF_MEMORY).kind == "oom"


def test_a_report_is_waited_for_where_the_node_lived() -> None:
    assert report_seconds(crash(DIED)) == REPORT_SECONDS
    assert report_seconds(crash(UNAVAILABLE)) == report_seconds(crash(OUT_OF_MEMORY)) == LOST_SECONDS
    assert report_seconds(None) == LOST_SECONDS < REPORT_SECONDS
