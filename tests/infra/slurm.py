"""A real Slurm on machines: munged, slurmctld and a slurmd each, without accounting, as small sites run it."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.infra.machines import Command, Machine, Machines, poll

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch")

# A lost node is noticed after half a minute. Jobs in partition `urgent` requeue those in `main`; `shut` takes none.
# A requeued job waits until its credentials have expired, by default two minutes. A node has what stands here, whatever
# this machine has.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={head}({address})
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=5
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=2,sched_min_interval=500000
GresTypes=gpu
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=60 DefMemPerCPU=500 PriorityTier=1
PartitionName=urgent Nodes={names} MaxTime=60 DefMemPerCPU=500 PriorityTier=10 PreemptMode=OFF
PartitionName=shut Nodes={names} MaxTime=60 State=DOWN
"""
GOING = ("PENDING", "CONFIGURING", "RUNNING", "SIGNALING", "SUSPENDED", "COMPLETING", "REQUEUED")
"""States of a job that has not ended. It is SIGNALING for a moment while it is told that its time is nearly over."""
NODE = "NodeName={name} NodeAddr={address} CPUs=4 RealMemory=8000 Gres=gpu:a100:2"


class Slurm:
    """The daemons; `head` is the machine of slurmctld, and `sbatch`, `squeue` and `scontrol` work on every machine."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.head = machines["n1"]
        self.folder = machines.folder / "slurm"
        self.etc = self.folder / "etc"
        (self.folder / "state").mkdir(parents=True)
        self.etc.mkdir()
        self._key = secrets.token_bytes(1024)
        self._daemons: list[Command] = []
        nodes = "\n".join(NODE.format(name=machine.name, address=machine.address) for machine in machines)
        names = ",".join(machine.name for machine in machines)
        fields = {"head": self.head.name, "address": self.head.address, "folder": self.folder}
        (self.etc / "slurm.conf").write_text(CONFIGURATION.format(**fields, nodes=nodes, names=names))
        for number in range(2):
            (self.folder / f"gpu{number}").symlink_to("/dev/null")  # Slurm wants a device, and opens none.
        (self.etc / "gres.conf").write_text(f"Name=gpu Type=a100 File={self.folder}/gpu[0-1]\n")
        for machine in machines:
            self._prepare(machine)
        self._daemon(self.head, "slurmctld", "-D")
        for machine in machines:
            self._daemon(machine, "slurmd", "-D", "-N", machine.name)
        poll(lambda: self.states() == dict.fromkeys((m.name for m in machines), "idle"), "Slurm's nodes", 180)

    def _prepare(self, machine: Machine) -> None:
        """Let a machine find the configuration, and its munged the key."""
        key = self.folder / f"munge-{machine.name}.key"
        key.write_bytes(self._key)
        machine.run(
            f"mount --bind {self.etc} /etc/slurm && install -d -o munge -m 755 /run/munge"
            f" && install -o munge -m 400 {key} /run/munge/key && mkdir -p {self.folder}/spool-{machine.name}"
            " && runuser -u munge -- munged --key-file=/run/munge/key --log-file=/run/munge/log"
            " --seed-file=/run/munge/seed"
        )
        key.unlink()

    def _daemon(self, machine: Machine, *words: str) -> None:
        with open(self.folder / f"{words[0]}-{machine.name}.out", "a") as out:
            self._daemons.append(machine.start(words, stdout=out, stderr=out))

    def states(self) -> dict[str, str]:
        """Return the state of each node, such as `idle`, `alloc`, `mix` or `down*`."""
        done = self.head.run(["sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %t"], check=False)
        return dict(line.split() for line in done.stdout.splitlines())

    def job(self, number: str | int) -> dict[str, str]:
        """Return what `scontrol show job` says of a job."""
        text = self.head.run(["scontrol", "--oneliner", "show", "job", str(number)]).stdout
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def wait_state(self, number: str | int, *states: str, seconds: float = 120) -> dict[str, str]:
        """Wait until a job is in one of the states, such as RUNNING or COMPLETED; one that ended otherwise fails."""
        poll(lambda: self.going(number, *states)["JobState"] in states, f"job {number} {' or '.join(states)}", seconds)
        return self.job(number)

    def wait_requeued(self, number: str | int) -> None:
        """Wait until a job has been requeued once; a requeued job is PENDING for a moment that may be missed."""
        poll(lambda: int(self.going(number)["Restarts"]) > 0, f"job {number} requeued", 200)

    def going(self, number: str | int, *ended: str) -> dict[str, str]:
        """Return what Slurm says of a job, which must not have ended but in the states `ended`."""
        job = self.job(number)
        assert job["JobState"] in (*ended, *GOING), job
        return job

    def preempt(self, nodes: str, grace: int) -> None:
        """Run a job in `urgent` on whole nodes; jobs in `main` that run there have a time of grace in seconds."""
        self.head.run(["scontrol", "update", "PartitionName=main", f"GraceTime={grace}"])
        words = ["--parsable", "--partition=urgent", f"--nodelist={nodes}", "--exclusive", "--wrap=sleep 1"]
        self.wait_state(self.head.run(["sbatch", *words]).stdout.strip(), "COMPLETED", seconds=300)

    def restart(self, machine: Machine) -> None:
        """Start a machine that was lost again, with its daemons."""
        self.machines.boot(machine)
        self._prepare(machine)
        if machine is self.head:
            self._daemon(machine, "slurmctld", "-D")
        self._daemon(machine, "slurmd", "-D", "-N", machine.name)
        back = ("idle", "mix", "alloc")  # A job that was requeued may be there first.
        poll(lambda: self.states().get(machine.name) in back, f"{machine.name} in Slurm", 180)

    def cancel_all(self) -> None:
        """End all jobs, and wait until the nodes are idle."""
        self.head.run("squeue --noheader --format=%A | xargs --no-run-if-empty scancel")
        poll(lambda: set(self.states().values()) == {"idle"}, "idle nodes", 180)

    def logs(self) -> str:
        """Return the ends of the daemons' logs, for a message."""
        paths: list[Path] = sorted(self.folder.glob("*.out"))
        return "".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in paths)
