"""Programs that let a launch in a job run its trials in its own process, without the half minute that Ray takes."""

from __future__ import annotations

import sys
from pathlib import Path

FAKE_LAUNCH = f"""#!/bin/bash
words=()
while [ $# -gt 0 ]; do
    case $1 in
        --cluster) words+=(--cluster inline --storage "$(sed -n 's/^storage: //p' "$2")"); shift 2 ;;
        *) words+=("$1"); shift ;;
    esac
done
exec {sys.executable} -m search.console "${{words[@]}}"
"""
FAKE_RAY = f"""#!{sys.executable} -S
import os, signal, socket, sys
with open(os.path.dirname(__file__) + "/ray.log", "a") as log:
    print(socket.gethostname(), os.environ.get("CUDA_VISIBLE_DEVICES"), *sys.argv[1:], file=log)
ports = [word.removeprefix("--port=") for word in sys.argv if word.startswith("--port=")]
if ports:
    listening = socket.create_server(("", int(ports[0])))
signal.pause()
"""


def without_ray_programs(folder: Path) -> Path:
    """Write the programs `ray` and `robustsearch` into a folder, which is to stand first in PATH; return it.

    A start of Ray is a line of its `ray.log`: the machine, the GPUs that CUDA would see there, and the arguments.
    """
    folder.mkdir(exist_ok=True)
    for name, text in (("ray", FAKE_RAY), ("robustsearch", FAKE_LAUNCH)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder
