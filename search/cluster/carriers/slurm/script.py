"""The script of a job: options of sbatch, what one study needs, and the part that is the same for all."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files


def script(
    options: Sequence[str],
    setup: Sequence[str],
    variables: Mapping[str, str],
    words: Sequence[str],
    texts: Mapping[str, str],
    *,
    folder: str | None = None,
) -> str:
    """Return a script for `sbatch`.

    `variables` are those that `job.sh` reads, `words` are further words of the launch in the job, and each of the
    `texts` becomes a function that prints it. The job's log is in `folder`, or where Slurm writes it.
    """
    parts = [
        "#!/bin/bash",
        *(f"#SBATCH {shlex.quote(option)}" for option in options),
        "",
        *(_logging(folder) if folder else ()),
        "# The lines of `setup` in the cluster file.",
        *setup,
        "",
        *(f"{name}={shlex.quote(value)}" for name, value in variables.items()),
        # What Slurm gives, which may be more than was asked for.
        "RS_CPUS=${SLURM_CPUS_PER_TASK:-1}",
        f"RS_WORDS=({shlex.join(words)})",
        *(_printing(name, text) for name, text in texts.items()),
        "",
        (files("search.cluster.carriers.slurm") / "job.sh").read_text(encoding="utf-8"),
    ]
    return "\n".join(parts)


def _logging(folder: str) -> tuple[str, ...]:
    """Return lines of shell that make the folder and write all that follows to the job's log there."""
    path = shlex.quote(folder)
    return (
        "# Slurm makes no folder for a log.",
        f'mkdir -p -- {path} && exec >>{path}/slurm-"$SLURM_JOB_ID".log 2>&1',
        "",
    )


def _printing(name: str, text: str) -> str:
    """Return a shell function that prints a text, which no line of the text can end."""
    end = f"END_OF_{name.upper()}"
    while end in text.splitlines():
        end += "_"
    return f"{name}() {{\n    cat <<'{end}'\n{text.removesuffix(chr(10))}\n{end}\n}}"
