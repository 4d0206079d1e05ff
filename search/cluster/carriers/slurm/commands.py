"""Slurm's commands, and what their errors mean."""

from __future__ import annotations

import os
import re
import subprocess

from search.cluster.base import ClusterError

SECONDS = 60.0
"""How long a command may take: a controller that is down or busy is waited for by Slurm itself."""


def run(*command: str, text: str | None = None) -> str:
    """Run one of Slurm's commands with `text` as its input, and return what it prints on both streams.

    Raises:
        ClusterError: it is not installed here, or failed; with the reason in words.
    """
    try:
        done = subprocess.run(
            command,
            input=text or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS,
            env=_environment(),
        )
    except FileNotFoundError:
        raise ClusterError(
            f"there is no `{command[0]}` on this machine: run this on a login node of the Slurm cluster"
        ) from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"Slurm's controller did not answer `{command[0]}` within {SECONDS:.0f} s") from None
    if done.returncode:
        raise ClusterError(explained(command[0], done.stdout))
    return done.stdout


def _environment() -> dict[str, str]:
    """Return the environment without what describes a job around this process: a new one would inherit its limits."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}
    return {**kept, "LC_ALL": "C"}


EXPLANATIONS = {
    r"[Ii]nvalid partition (name )?specified": "Slurm knows no such `partition`",
    r"Invalid account or account/partition": "Slurm knows no such `account`, or it may not use the partition",
    r"Invalid qos|Invalid QOS": "Slurm knows no such QoS, or the account may not use it: see `extra`",
    r"Requested time limit is invalid|time limit.*exceed": "the `time` is over the limit of the partition or QoS",
    r"Requested node configuration is not available": "no node of the partition has what is asked for: "
    "`cpus_per_node`, `gpus_per_node`, `memory_per_node`",
    r"Node count specification invalid|More nodes requested": "`nodes` is more than the partition has or allows",
    r"More processors requested than permitted": "`nodes` times `cpus_per_node` is more than is permitted",
    r"Memory required by task is not available|Memory specification": "no node has that `memory_per_node`",
    r"[Ii]nvalid generic resource|Invalid Trackable RESource|[Ii]nvalid gres": "no node has such `gpus_per_node`",
    r"policy .*limit|QOSMax|AssocGrp|AssocMax": "a limit of the account or QoS is reached: jobs submitted, their size "
    "or their time",
    r"group not permitted|[Aa]ccess/permission denied": "this user may not use the partition",
    r"Invalid feature": "no node has the feature that a `--constraint` in `extra` asks for",
    r"Unable to contact slurm controller|Unable to resolve|configuration source|Connection refused|Socket timed out": (
        "Slurm's controller cannot be reached from this machine"
    ),
    r"required partition not available|is down|inactive": "the partition is down or inactive",
}
"""What Slurm says, as a pattern, and what it means for the keys of a cluster file."""

_UNKNOWN_JOB = re.compile(r"Invalid job id specified")


def explained(command: str, output: str) -> str:
    """Return an error of a command in words, with what Slurm itself says."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = "; ".join(line.removeprefix(f"{command}: ").removeprefix("error: ") for line in lines[-3:])[:400]
    meaning = next((text for pattern, text in EXPLANATIONS.items() if re.search(pattern, output)), None)
    refused = "Slurm refuses the job" if command == "sbatch" else f"`{command}` failed"
    return f"{meaning} ({said})" if meaning else f"{refused}: {said or 'without a message'}"


def known(output: str) -> bool:
    """Return whether an error is not that Slurm knows no such job: it forgets them minutes after their end."""
    return not _UNKNOWN_JOB.search(output)
